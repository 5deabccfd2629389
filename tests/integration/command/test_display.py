"""What the terminal shows of a run: lines in a pipe, JSON for clusters, a live display, or nothing."""

import io
import json
import sys
import warnings

import pytest

from distill import run
from distill.config.loader import ConfigError, load
from distill.experiment.experiment import Experiment
from distill.training.callbacks.checkpoints import LastCheckpoint
from distill.training.callbacks.curves import CurveLogger
from distill.training.callbacks.display.callback import ProgressDisplay
from tests.helpers.runs import interrupted, rows, train_command


def test_a_pipe_shows_the_first_and_the_last_step_and_then_the_report(tiny_run, capfd):
    assert train_command(["--config", str(tiny_run)]) == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    progress = [line for line in lines if line.startswith("step ")]
    assert progress[0].startswith("step 1/16  6 %  loss ") and "(hidden " in progress[0]
    assert progress[-1].startswith("step 16/16  100 %  loss ") and "  val/accuracy " in progress[-1]
    assert progress[-1].endswith("  bits 8")
    assert "tiny: 16 steps in " in out
    assert lines[-1] == f"report: {tiny_run.parent}/runs/tiny/report.html"
    assert err == ""


def test_a_line_comes_at_every_interval(tiny_run, capsys):
    assert train_command(["--config", str(tiny_run), "--display.interval=0", "--display.mode=lines"]) == 0
    steps = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert list(dict.fromkeys(steps)) == [f"{step}/16" for step in range(1, 17)]


def test_json_is_an_object_a_line_from_the_plan_to_the_report(tiny_run, capsys):
    assert train_command(["--config", str(tiny_run), "--display=json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["plan", "progress", "progress", "trained", "report"]
    assert {event["run"] for event in events} == {"tiny"}
    plan, first, last, _, report = events
    assert plan["steps"] == 16 and plan["timeline"][0]["what"] == "loss hidden"
    assert first["next"].startswith("in 1 step: sparsity elements")
    row = next(row for row in rows(tiny_run.parent / "runs" / "tiny") if row["step"] == "0")
    assert first["loss"] == pytest.approx(float(row["loss"]))
    assert first["loss"] == pytest.approx(sum(first["losses"].values()))
    assert last["step"] == 16 and last["bits"] == 8
    assert report["report"].endswith("report.html") and "student" in report["models"]


def test_quiet_is_one_line(tiny_run, capfd):
    assert train_command(["--config", str(tiny_run), "--display=quiet"]) == 0
    assert capfd.readouterr() == (f"report: {tiny_run.parent}/runs/tiny/report.html\n", "")


class Terminal(io.StringIO):
    """A standard output that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_live_display(tiny_run, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("distill.training.callbacks.display.callback.REFRESH_SECONDS", 0.0)
    assert train_command(["--config", str(tiny_run)]) == 0
    text = terminal.getvalue()
    assert "\x1b[2K" in text, "nothing was drawn in place"
    assert "step 16/16" in text and "in 1 step: 8-bit training starts" in text
    assert text.splitlines()[-1].startswith("report: ")


@pytest.mark.parametrize("name", ["dumb", ""])
def test_a_terminal_that_cannot_be_drawn_on_has_lines(tiny_run, monkeypatch, name):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", name)
    display = load(tiny_run, Experiment).value.display
    assert ProgressDisplay(display, "tiny", [], CurveLogger(), "val/accuracy").live is None


def test_ctrl_c_in_a_live_display_is_a_line(tiny_run, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    real = LastCheckpoint.save

    def save(self, trainer):
        if trainer.global_step == 3:
            self.stop.code = 130
        real(self, trainer)

    monkeypatch.setattr(LastCheckpoint, "save", save)
    assert train_command(["--config", str(tiny_run)]) == 130
    assert capsys.readouterr().err == "stopped after step 3 of 16; go on with --resume\n"
    assert terminal.getvalue().endswith("\n")


def test_run_from_python_is_as_silent_as_the_command(tiny_run, capfd):
    """What is left is what the run itself says; the libraries are as they were afterwards."""
    before = list(warnings.filters)
    run(tiny_run, display="quiet")
    assert capfd.readouterr() == ("", "")
    assert warnings.filters == before


def test_display_and_tracking_may_differ_when_a_run_is_resumed(tiny_run, monkeypatch, capsys):
    interrupted(monkeypatch, 4, tiny_run)
    capsys.readouterr()
    report = run(tiny_run, resume=True, display="quiet")
    assert capsys.readouterr().out == ""
    assert load(report.folder / "config.yaml", Experiment).value.display.mode == "quiet"


def test_a_run_does_not_end_because_nobody_reads_its_output(tiny_run, monkeypatch):
    class Closed:
        def isatty(self) -> bool:
            return False

        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    begun = ProgressDisplay.on_train_start

    def on_train_start(self, trainer, module):
        begun(self, trainer, module)
        monkeypatch.setattr(sys, "stdout", Closed())

    monkeypatch.setattr(ProgressDisplay, "on_train_start", on_train_start)
    assert run(tiny_run).models["student"].metrics


def test_an_interval_below_zero_is_refused(tiny_run):
    with pytest.raises(ConfigError, match=r"--display\.interval: must be a number of seconds from 0 on, not -1"):
        load(tiny_run, Experiment, {"display.interval": -1})
