"""Going on without the teacher once it is passed."""

import csv
import json

import pytest
import torch

from distill import run
from distill.config.loader import ConfigError
from distill.teachers.early_stop import TeacherEarlyStop
from distill.teachers.ensemble import Teachers
from distill.teachers.teacher import FrozenTeacher, Teacher
from tests.helpers.runs import checkpoint, interrupted, resumes_bit_for_bit

LOSSES = {
    "labels": {"kind": "Labels"},
    "logits": {"kind": "Logits", "temperature": 2.0},
    "hidden": {"kind": "HiddenMSE", "layers": "top"},
}


@pytest.fixture
def given(materials) -> dict:
    """A teacher that is to be passed; nothing is pruned or quantized."""
    teacher = {"model": str(materials / "teacher"), "drop_when_matched": True}
    return {"teacher": teacher, "losses": LOSSES, "prune": None, "quantize": None}


def level(monkeypatch, mark: float) -> None:
    """Lets the teacher have this accuracy, so that it is known when it is passed."""
    real = TeacherEarlyStop.on_validation_end

    def patched(self, trainer, module):
        if self.measures:
            self.metrics.compute = lambda: {"accuracy": torch.tensor(mark)}
        real(self, trainer, module)

    monkeypatch.setattr(TeacherEarlyStop, "on_validation_end", patched)


def watched(monkeypatch) -> list[int]:
    """How many rows the teacher was asked for, batch by batch."""
    batch_sizes, real = [], FrozenTeacher.record

    def record(self, batch, signals):
        batch_sizes.append(len(batch["input_ids"]))
        return real(self, batch, signals)

    monkeypatch.setattr(FrozenTeacher, "record", record)
    return batch_sizes


def passed(monkeypatch, file, given) -> dict:
    """What is known after training of the teacher and when it was passed."""
    interrupted(monkeypatch, 16, file, **given)
    return checkpoint(file.parent / "runs" / "tiny")["callbacks"]["TeacherEarlyStop"]


def read_run(folder) -> tuple[list[dict], str]:
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    return rows, " ".join(json.loads((folder / "report.json").read_text())["notes"])


def test_the_teacher_is_measured_on_the_rows_of_the_validation(tiny_run, given, monkeypatch):
    marks, real = [], TeacherEarlyStop.on_validation_end

    def watch(self, trainer, module):
        real(self, trainer, module)
        marks.append(self.teacher_metric)

    monkeypatch.setattr(TeacherEarlyStop, "on_validation_end", watch)
    report = run(tiny_run, **given)
    assert marks == [pytest.approx(report.models["teacher"].metrics["accuracy"])] * 2


def test_after_it_is_passed_only_labels_count_and_it_never_runs(tiny_run, given, monkeypatch):
    level(monkeypatch, 0.0)
    batch_sizes = watched(monkeypatch)
    run(tiny_run, **given)
    assert sum(batch_sizes) == 2 + 1 + 64 + 16  # two rows, then one, before training; one epoch and one validation
    rows, notes = read_run(tiny_run.parent / "runs" / "tiny")
    weights = {name: [r[f"train/{name}_weight"] for r in rows if r[f"train/{name}_weight"]] for name in LOSSES}
    assert weights["labels"] == ["1.0"] * 16
    assert weights["logits"] == weights["hidden"] == ["1.0"] * 8 + ["0.0"] * 8
    assert "against 0.0000) and trained without it from step 8" in notes


def test_a_better_teacher_stays(tiny_run, given, monkeypatch):
    level(monkeypatch, 1.1)
    batch_sizes = watched(monkeypatch)
    state = passed(monkeypatch, tiny_run, given)
    assert sum(batch_sizes) == 2 + 1 + 2 * 64 + 16
    assert state["matched_at_step"] is None and state["teacher_metric"] == pytest.approx(1.1)


def test_a_student_that_is_yet_to_be_pruned_has_not_passed(tiny_run, given, monkeypatch):
    level(monkeypatch, 0.0)
    sparsity = {"kind": "Cubic", "to": 0.5, "stop": "60%"}
    given["prune"] = {"kind": "Magnitude", "sparsity": sparsity}
    assert passed(monkeypatch, tiny_run, given)["matched_at_step"] == 16


def test_what_is_read_from_a_cache_is_measured_too(tiny_run, given, monkeypatch):
    level(monkeypatch, 0.0)
    batch_sizes = watched(monkeypatch)
    given["teacher"]["cache"] = True
    assert passed(monkeypatch, tiny_run, given)["matched_at_step"] == 8
    assert sum(batch_sizes) == 2 + 1 + 64 + 16


@pytest.mark.parametrize("stop", [5, 12])
def test_resumes_bit_for_bit_before_and_after(tiny_run, monkeypatch, given, stop):
    level(monkeypatch, 0.0)
    folder = resumes_bit_for_bit(monkeypatch, stop, 16, tiny_run, **given)
    assert checkpoint(folder)["callbacks"]["TeacherEarlyStop"]["matched_at_step"] == 8


def test_something_must_be_left_to_learn(tiny_run, given):
    with pytest.raises(ConfigError, match=r"losses: all use the teacher.*Labels"):
        run(tiny_run, **given | {"losses": {"logits": {"kind": "Logits"}}})


def test_one_of_several_cannot_be_passed():
    with pytest.raises(ValueError, match="members: drop_when_matched: is for a single teacher"):
        Teachers(members={"a": Teacher(model="x", drop_when_matched=True), "b": Teacher(model="y")})
