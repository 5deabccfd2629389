"""A run that is told to stop: its exit code says so, a line says how to go on, and what goes on is the run."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from lightning import Trainer

from distill.training.callbacks.checkpoints import LastCheckpoint
from distill.training.module import Distillation
from distill.training.stop import Interrupted, StopHandler
from tests.helpers.repositories import save_tiny_bert
from tests.helpers.runs import CONFIG, command, interrupted, rows, same, train_command, weights
from tests.integration.processes.test_two_processes import still

slow = pytest.mark.slow
SMALL = {"prune": None, "quantize": None, "student": {"kind": "Transformer", "layers": 1}}


def signal_at_step(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, number: int, at_step: int) -> None:
    """A signal comes when a method is called after step ``at_step``, once."""
    real, sent = getattr(owner, name), []

    def method(self, *args, **given):
        trainer = self if isinstance(self, Trainer) else self.trainer if isinstance(self, Distillation) else args[0]
        if trainer.global_step == at_step and not sent:
            sent.append(number)
            signal.raise_signal(number)
        return real(self, *args, **given)

    monkeypatch.setattr(owner, name, method)


def equal(uninterrupted: Path, stopped: Path) -> None:
    """Asserts that two runs have ended with the same weights and curves."""
    first, second = weights(uninterrupted), weights(stopped)
    assert first.keys() == second.keys() and [key for key in first if not same(first[key], second[key])] == []
    assert rows(uninterrupted) == rows(stopped)


@pytest.fixture(scope="module")
def small(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of 8 steps, validated at the end of one and within another, and the run that nobody stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    config = yaml.safe_load(
        CONFIG.format(data=materials / "data", teacher=materials / "teacher", output=folder / "runs")
    )
    config["trainer"] |= {"accumulate_grad_batches": 2, "val_check_interval": 3}
    (folder / "x.yaml").write_text(yaml.safe_dump(config | SMALL, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        interrupted(patch, 8, folder / "x.yaml", name="whole")
    return folder / "x.yaml"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("owner", "name", "number", "at_step", "code", "after"),
    [
        pytest.param(Distillation, "validation_step", signal.SIGTERM, 3, 143, 3, marks=slow),  # at the end of a step
        (Distillation, "validation_step", signal.SIGTERM, 1, 143, 2),  # within one, which is ended first
        pytest.param(Distillation, "training_step", signal.SIGTERM, 2, 143, 3, marks=slow),
        (Distillation, "training_step", signal.SIGINT, 0, 130, 1),
        pytest.param(LastCheckpoint, "save", signal.SIGUSR1, 4, 138, 4, marks=slow),
        (Trainer, "save_checkpoint", signal.SIGTERM, 4, 143, 5),
        (LastCheckpoint, "on_train_end", signal.SIGTERM, 8, 143, 8),
    ],
)
def test_a_signal_while_steps_are_made(
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    owner: type,
    name: str,
    number: int,
    at_step: int,
    code: int,
    after: int,
) -> None:
    before, run = signal.getsignal(number), f"{name}-{at_step}"
    with monkeypatch.context() as patch:
        signal_at_step(patch, owner, name, number, at_step)
        assert train_command(["--config", str(small), f"--name={run}"]) == code
    *_, line = capsys.readouterr().err.splitlines()
    assert line == f"stopped after step {after} of 8; go on with --resume"
    assert signal.getsignal(number) is before
    if after < 8:  # else there is nothing to train
        interrupted(monkeypatch, 8, small, name=run, resume=True)
    equal(small.parent / "runs" / "whole", small.parent / "runs" / run)


@pytest.mark.parametrize(
    "place",
    [
        "prepare",
        pytest.param("export", marks=slow),
        "evaluate",
        pytest.param("write_report", marks=slow),
    ],
)
def test_a_signal_before_and_after_the_steps_ends_at_once(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, place: str
) -> None:
    monkeypatch.setattr(sys.modules["distill.runner"], place, lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert (
        train_command(["--config", str(tiny_run), "--prune=null", "--quantize=null", "--trainer.max_epochs=1"]) == 143
    )
    err = capsys.readouterr().err
    begun = (tiny_run.parent / "runs" / "tiny" / "config.yaml").exists()
    assert begun == (place != "prepare") and "Traceback" not in err
    how = "go on with --resume" if begun else "nothing was written yet"
    assert err.splitlines()[-1] == f"stopped by SIGTERM; {how}"


def test_a_library_that_leaves_without_a_code_does_not_make_the_run_a_finished_one(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def leave(*_):
        raise SystemExit

    monkeypatch.setattr("distill.training.prepare.prepare.plan", leave)
    assert train_command(["--config", str(tiny_run)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("nothing was written yet")


def test_a_second_signal_is_not_waited_for() -> None:
    """It goes to whom it went before; so does what comes after the run."""
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with StopHandler() as stop:
            stop.in_training = True
            signal.raise_signal(signal.SIGINT)
            assert stop.code == 130 and not seen
            signal.raise_signal(signal.SIGINT)
            assert seen == [signal.SIGINT]
        with StopHandler(), pytest.raises(Interrupted, match="stopped by SIGINT"):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert seen == [signal.SIGINT] * 2
    finally:
        signal.signal(signal.SIGINT, before)


def child_of(process: subprocess.Popen) -> int | None:
    """The second process of the run, once there is one."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return next((int(pid) for pid in children if b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()), None)


@pytest.fixture(scope="module")
def two(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of two processes and 32 steps, and the run of it that nobody stopped."""
    folder = tmp_path_factory.mktemp("stops")
    save_tiny_bert(folder / "teacher", layers=4, hidden=32, heads=4, labels=["negative", "positive"])
    still(folder / "teacher")
    config = yaml.safe_load(CONFIG.format(data=materials / "data", teacher=folder / "teacher", output=folder / "runs"))
    config["quantize"], config["optimizer"] = None, {"lr": 1e-3}
    config["trainer"] |= {"devices": 2, "max_epochs": 8, "accumulate_grad_batches": 2, "val_check_interval": 3}
    (folder / "x.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    output, _ = (process := command(folder / "x.yaml", "--name=whole")).communicate(timeout=900)
    assert process.returncode == 0, output
    return folder / "x.yaml"


@slow
@pytest.mark.parametrize("whom", ["both", "first", "second"])
@pytest.mark.parametrize("when", [0, 1, 7, 23])
def test_two_processes_stop_together_and_go_on(two: Path, whom: str, when: int) -> None:
    """Told when the second has just been started, and after so many rows of the curves."""
    name = f"{whom}-{when}"
    process, curves = command(two, f"--name={name}"), two.parent / "runs" / name / "metrics.csv"
    while child_of(process) is None or (when and (not curves.exists() or len(rows(curves.parent)) < when)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    second, began = child_of(process), time.monotonic()
    if whom != "first":
        subprocess.run(["kill", "-TERM", str(second)], check=True)
    if whom != "second":
        process.terminate()
    output, _ = process.communicate(timeout=120)
    seconds = time.monotonic() - began
    print(f"\nSIGTERM to {whom} after {when} rows: {process.returncode} in {seconds:.1f} s: {output[-99:]}")
    assert process.returncode == 143, output
    last = output.splitlines()[-1]
    assert "Traceback" not in output, output
    if when == 0 and last.endswith("nothing was written yet"):  # a start that fails leaves no folder
        assert not curves.parent.exists()
    else:
        assert "--resume" in last, output
    resume = ["--resume"] if curves.parent.exists() else []
    output, _ = (process := command(two, f"--name={name}", *resume)).communicate(timeout=900)
    assert process.returncode == 0, output
    equal(two.parent / "runs" / "whole", two.parent / "runs" / name)
