"""Two processes never work in the folder of one run."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
from pathlib import Path

import pytest

from distill import run
from distill.config.loader import ConfigError, load
from distill.experiment.experiment import Experiment
from distill.run_dir.lock import NAME, RunDirLocked, lock, lock_owner
from distill.training.prepare.run_folder import ResumePoint, locked_run_dir, prepare_run_dir
from tests.helpers.runs import train_command


def holder(folder: Path) -> tuple[int, int]:
    """A process that holds the folder until it is killed, and the end of a pipe that it wrote to when it had it."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            with lock(folder):
                os.write(writes, b"1")
                signal.pause()
        except RunDirLocked:
            os.write(writes, b"0")
        finally:
            os._exit(0)
    os.close(writes)
    return child, reads


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_second_one_is_told_who_has_it(tmp_path: Path) -> None:
    assert lock_owner(tmp_path) is None
    who = f"process {os.getpid()} on {socket.gethostname()} since "
    with lock(tmp_path):
        assert lock_owner(tmp_path).startswith(who)
        with pytest.raises(RunDirLocked, match=who), lock(tmp_path):
            pass
        assert lock_owner(tmp_path).startswith(who), "one that asked in vain takes nothing away"
    assert lock_owner(tmp_path) is None and not list(tmp_path.iterdir())


def test_sigkill_gives_it_back(tmp_path: Path) -> None:
    child, reads = holder(tmp_path)
    assert os.read(reads, 1) == b"1" and lock_owner(tmp_path).startswith(f"process {child} on")
    end(child)
    assert (tmp_path / NAME).exists() and lock_owner(tmp_path) is None
    with lock(tmp_path):
        assert lock_owner(tmp_path).startswith(f"process {os.getpid()} on")


def test_of_several_that_start_together_one_has_it(tmp_path: Path) -> None:
    started = [holder(tmp_path) for _ in range(8)]
    assert sorted(os.read(reads, 1) for _, reads in started) == [b"0"] * 7 + [b"1"]
    for child, _ in started:
        end(child)


def test_a_file_that_is_damaged_or_empty_is_no_hindrance(tmp_path: Path) -> None:
    for text in ("", '{"pid": 1', "[]", "\0" * 20):
        (tmp_path / NAME).write_text(text)
        with lock(tmp_path):
            assert lock_owner(tmp_path).startswith(f"process {os.getpid()} on")
        assert not (tmp_path / NAME).exists()


def test_where_files_cannot_be_locked_the_user_is_warned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: object, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=r"cannot be locked \(No locks available\)"), lock(tmp_path):
        pass
    assert lock_owner(tmp_path) is None


@pytest.mark.parametrize("words", [[], ["--resume"], ["--resume=auto"]])
def test_a_run_that_is_going_on_is_neither_begun_nor_resumed(
    tiny_run: Path, capsys: pytest.CaptureFixture, words: list[str]
) -> None:
    folder = tiny_run.parent / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("")
    child, reads = holder(folder)
    assert os.read(reads, 1) == b"1"
    assert train_command(["--config", str(tiny_run), *words]) == 2
    out, err = capsys.readouterr()
    end(child)
    assert out == "" and err.count("\n") == 1
    assert f"name: the run in {folder} is going on (process {child} on {socket.gethostname()} since 20" in err


def test_one_that_comes_while_another_is_planned_is_told_before_it_writes(tiny_run: Path) -> None:
    config = load(tiny_run, Experiment)
    folder = tiny_run.parent / "runs" / "tiny"
    start = prepare_run_dir(config, folder, resume=False)
    assert start == ResumePoint()
    with locked_run_dir(config, folder, start):
        with pytest.raises(ConfigError, match="is going on"), locked_run_dir(config, folder, start):
            pass
        (folder / "config.yaml").write_text("begun")
    with (
        pytest.raises(ConfigError, match="another process has worked in .* meanwhile"),
        locked_run_dir(config, folder, start),
    ):
        pass
    assert (folder / "config.yaml").read_text() == "begun" and lock_owner(folder) is None


def test_a_run_that_fails_gives_its_folder_back(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*given: object, **named: object) -> None:
        assert lock_owner(tiny_run.parent / "runs" / "tiny").startswith(f"process {os.getpid()} on")
        raise RuntimeError("on purpose")

    monkeypatch.setattr("lightning.Trainer.fit", fit)
    with pytest.raises(RuntimeError, match="on purpose"):
        run(tiny_run)
    assert lock_owner(tiny_run.parent / "runs" / "tiny") is None
