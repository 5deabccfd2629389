"""Disks that are full, cannot be written or hold something else: one line with the path and the system's reason."""

import errno
import os
import resource
import threading
from importlib import import_module
from pathlib import Path

import pytest

from distill.run_dir.disk import check_writable, os_error_message
from distill.training.callbacks.display.quiet import silence_libraries
from tests.helpers.runs import train_command


@pytest.fixture
def few_bytes() -> object:
    """Sets how many bytes a file may have, until the test is over; the system refuses more, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def error_line(capsys: pytest.CaptureFixture, code: int, words: list[str]) -> str:
    """The one line with which the command ends."""
    assert train_command(words) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.endswith("\n") and "Traceback" not in err, err
    return err.strip()


PLACES = {
    "a device": ("/dev/null", "Not a directory"),
    "below a device": ("/dev/null/x", "Not a directory"),
    "a link to itself": ("loop", "Too many levels of symbolic links"),
    "below a link to itself": ("loop/x/y", "Too many levels of symbolic links"),
    "a link to nowhere": ("dangling", "No such file or directory"),
    "a pipe": ("pipe", "Not a directory"),
    "a long name": ("x" * 300, "File name too long"),
    "a long path": ("/x" * 3000, "File name too long"),
}


@pytest.mark.parametrize(("output", "why"), PLACES.values(), ids=PLACES.keys())
def test_an_output_that_cannot_be_written_is_told_before_anything_is_loaded(
    capsys, tiny_run, monkeypatch, output, why
) -> None:
    monkeypatch.chdir(tiny_run.parent)
    os.symlink("loop", "loop")
    os.symlink("nowhere", "dangling")
    os.mkfifo("pipe")
    before = sorted(os.listdir())
    monkeypatch.setattr("distill.training.prepare.plan.assemble", None)
    line = error_line(capsys, 2, ["--config", str(tiny_run), f"--output={output}"])
    assert f": {why}" in line and output[:10] in line
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_what_the_system_says_when_the_folder_is_tried_is_told(capsys, tiny_run, monkeypatch, number) -> None:
    def refuse(**given: object) -> None:
        raise OSError(number, os.strerror(number), f"{given['dir']}/tmpabc")

    monkeypatch.setattr("distill.run_dir.disk.tempfile.TemporaryFile", refuse)
    runs = tiny_run.parent / "runs"
    line = error_line(capsys, 2, ["--config", str(tiny_run)])
    assert line == f"{tiny_run}:14: output: {runs / 'tiny'}: {os.strerror(number)}"
    assert not runs.exists()


def test_the_probe_leaves_nothing_and_counts_what_is_left(tmp_path: Path) -> None:
    before = tmp_path.stat().st_mtime_ns
    check_writable(tmp_path / "a" / "b", 1000)
    assert list(tmp_path.iterdir()) == [] and tmp_path.stat().st_mtime_ns == before
    with pytest.raises(OSError, match=r"1,000,000,000,000.0 MB are needed"):
        check_writable(tmp_path / "a", 10**18)


def test_a_checkpoint_that_does_not_fit_ends_the_run_and_it_goes_on(capsys, tiny_run, few_bytes) -> None:
    few_bytes(100_000)
    line = error_line(capsys, 1, ["--config", str(tiny_run)])
    assert "File too large; go on with --resume" in line and "/" in line.partition(":")[0]
    few_bytes(resource.RLIM_INFINITY)
    assert train_command(["--config", str(tiny_run), "--resume"]) == 0
    assert (tiny_run.parent / "runs" / "tiny" / "report.json").exists()


@pytest.mark.parametrize("late", ["export", "write_report"])
def test_what_is_written_after_training_does_not_fit(capsys, tiny_run, few_bytes, monkeypatch, late) -> None:
    module = import_module("distill.runner")
    real = getattr(module, late)

    def full(*args: object, **given: object) -> object:
        few_bytes(2_000)
        return real(*args, **given)

    monkeypatch.setattr(module, late, full)
    line = error_line(capsys, 1, ["--config", str(tiny_run), "--trainer.max_epochs=1"])
    assert line.endswith("File too large; go on with --resume")
    assert line.startswith(str(tiny_run.parent / "runs" / "tiny"))


class SafetensorError(Exception):
    """Of a library that writes by itself."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b.ckpt"), "/a/b.ckpt: No space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), "runs/x: Read-only file system"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "runs/x: No space left on device"),
        (RuntimeError("[Errno 30] Read-only file system: 'z'"), "runs/x: Read-only file system"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "runs/x: Connection refused"),
        (RuntimeError("shapes"), None),
        (KeyError("errno"), None),
    ],
)
def test_the_reason_is_found_in_whatever_a_library_raises(monkeypatch, error, line) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    assert os_error_message(error, Path("runs/x")) == line
    wrapper = RuntimeError("unexpected pos 64 vs 0")
    wrapper.__context__ = error
    disk = line and ("No space" in line or "Read-only" in line)
    assert os_error_message(wrapper, Path("runs/x")) == (line if disk else None)


def test_a_full_cache_of_data_sets_is_told_with_its_folder(capsys, tiny_run, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")
    monkeypatch.setattr("datasets.builder.has_sufficient_disk_space", lambda *given, **named: False)
    line = error_line(capsys, 2, ["--config", str(tiny_run)])
    assert f"cache is full ({tmp_path / 'hub'}); set HF_HOME to another folder" in line


def test_what_ends_a_thread_of_a_library_is_a_line(capsys, monkeypatch) -> None:
    monkeypatch.setattr("threading.excepthook", threading.excepthook)
    silence_libraries()

    def write() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    thread = threading.Thread(target=write, name="writer")
    thread.start()
    thread.join()
    message = "warning: writer of a library ended: OSError: [Errno 28] No space left on device\n"
    assert capsys.readouterr().err == message
