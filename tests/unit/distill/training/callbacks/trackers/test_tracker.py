"""What trackers have in common: tables of the report, and failures that end nothing."""

from pathlib import Path

from distill.training.callbacks.trackers.tracker import Results, Tracker


class Counted(Tracker):
    key = "counted"

    def __init__(self):
        self.calls = 0

    def describe(self) -> str:
        return "nowhere"

    def act(self) -> None:
        self.calls += 1
        if self.calls == 2:
            raise TimeoutError("no\nanswer")


def test_a_tracker_that_has_failed_is_left_alone(capsys):
    tracker = Counted()
    for _ in range(4):
        tracker.attempt(tracker.act)
    assert tracker.calls == 2
    assert tracker.failure == "tracking.counted has stopped, the run goes on: TimeoutError: no answer"
    assert capsys.readouterr() == ("", f"warning: {tracker.failure}\n")


def test_tables_have_a_column_for_each_value_of_any_row():
    report = {
        "models": {
            "teacher": {"bytes": 4, "metrics": {"accuracy": 0.9}},
            "student": {"bytes": 1, "metrics": {"accuracy": 0.8}, "batch_dependence": {"rows": 2}},
        },
        "exports": [],
        "timeline": [{"what": "loss", "start_step": 0, "stop_step": 3}],
    }
    columns = ["model", "bytes", "metrics/accuracy", "batch_dependence/rows"]
    assert Results(report, {}, Path()).tables() == {
        "models": (columns, [["teacher", 4, 0.9, None], ["student", 1, 0.8, 2]]),
        "timeline": (["what", "start_step", "stop_step"], [["loss", 0, 3]]),
    }
