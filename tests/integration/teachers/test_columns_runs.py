"""Whole runs whose teacher is columns of the data: they train like the model that wrote the columns."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill import run
from tests.helpers.repositories import save_tiny_bert, sentences
from tests.helpers.runs import resumes_bit_for_bit

TEXT = """\
task: {{name: {task}, data: {folder}/data, text: sentence, max_length: 32, batch_size: 8}}
teacher: {teacher}
student: {folder}/student
losses:
  labels: {{kind: Labels}}
  soft: {{kind: {loss}}}
optimizer: {{lr: 5e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""
NAMES = ["p_negative", "p_positive"]


def outputs(folder: Path, rows: list[dict]) -> torch.Tensor:
    """The teacher's logits [N, C] of rows, each read alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        return torch.cat([model.eval()(**tokenizer(row["sentence"], return_tensors="pt")).logits for row in rows])


def fine_tune(folder: Path, rows: list[dict]) -> None:
    """Train a teacher in a few steps, so that its outputs differ from text to text."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    batch = tokenizer([row["sentence"] for row in rows], padding=True, return_tensors="pt")
    labels, optimizer = torch.tensor([row["label"] for row in rows]), torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(25):
        model.eval()(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


def save(folder: Path, split: str, rows: list[dict]) -> None:
    with (folder / f"{split}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with a teacher, a student without a head, and rows with the teacher's outputs."""
    save_tiny_bert(tmp_path / "teacher", layers=2, hidden=32, heads=4, labels=["negative", "positive"])
    save_tiny_bert(tmp_path / "student", layers=1, hidden=24, heads=4)
    fine_tune(tmp_path / "teacher", sentences(40, 7))
    (tmp_path / "data").mkdir()
    for seed, (split, count) in enumerate({"train": 40, "validation": 12, "test": 8}.items()):
        rows = sentences(count, seed)
        logits = outputs(tmp_path / "teacher", rows)
        for row, z in zip(rows, logits.double(), strict=True):
            row |= dict(zip(NAMES, (z / 2).softmax(-1).tolist(), strict=True))
            row |= dict(zip(("z_negative", "z_positive"), z.tolist(), strict=True))
        save(tmp_path / "data", split, rows)
    return tmp_path


def write(folder: Path, teacher: str, loss: str = "Logits, temperature: 2.0", task: str = "classification") -> Path:
    file = folder / "x.yaml"
    file.write_text(TEXT.format(folder=folder, teacher=teacher, loss=loss, task=task))
    return file


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row["train/soft"]) for row in csv.DictReader(file) if row["train/soft"]]


COLUMNS = {
    "probabilities": "{columns: [p_negative, p_positive], temperature: 2.0}",
    "logits": "{columns: {positive: z_positive, negative: z_negative}, values: logits}",
}
LABELS = {"task.labels": {"0": "negative", "1": "positive"}}


@pytest.mark.parametrize("values", COLUMNS)
def test_each_step_has_the_loss_of_the_model_that_wrote_the_columns(world: Path, values: str) -> None:
    run(write(world, f"{world}/teacher"), name="online", **LABELS)
    (world / "teacher").rename(world / "gone")
    run(write(world, COLUMNS[values]), name="columns", **LABELS)
    online, columns = losses(world / "runs" / "online"), losses(world / "runs" / "columns")
    assert len(online) == 10 and max(online) > 0.05
    assert columns == pytest.approx(online, abs=1e-6, rel=0)
    reports = [json.loads((world / "runs" / name / "report.json").read_text()) for name in ("online", "columns")]
    teachers = [report["models"]["teacher"] for report in reports]
    assert teachers[0]["metrics"] == pytest.approx(teachers[1]["metrics"])
    assert teachers[1]["bytes"] is None and teachers[1]["latency_ms"] == {}
    for model, metrics in reports[0]["test"]["metrics"].items():
        assert reports[1]["test"]["metrics"][model] == pytest.approx(metrics)
    assert reports[1]["ratios"].keys() == {"retained"} and reports[1]["difference"]


def empty_cells(folder: Path, split: str, every: int, columns: list[str]) -> None:
    """Empty the cells of each n-th row of a file."""
    with (folder / f"{split}.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows[::every]:
        row |= dict.fromkeys(columns, "")
    save(folder, split, rows)


def test_rows_without_cells_learn_their_labels(world: Path) -> None:
    empty_cells(world / "data", "train", 4, NAMES)
    empty_cells(world / "data", "validation", 6, NAMES)
    empty_cells(world / "data", "test", 1, NAMES)
    report = run(write(world, COLUMNS["probabilities"]), name="some", **LABELS)
    assert losses(world / "runs" / "some")[0] > 0.1
    notes = " ".join(report.preflight["lines"])
    assert "teacher: 10 of 40 training rows have no soft labels; their labels stand in" in notes
    assert "teacher: 2 of 12 validation rows have no soft labels; the teacher is not evaluated on them" in notes
    assert "on 10 of 12 validation rows" in notes
    assert report.models["teacher"].metrics["accuracy"] == 1.0 and report.difference == {}
    assert list(report.test.metrics) == ["student"] and report.test.difference == {}


def test_validation_and_test_need_no_columns(world: Path) -> None:
    for split, count in (("validation", 12), ("test", 8)):
        save(world / "data", split, sentences(count, 5))
    report = run(write(world, COLUMNS["logits"]), name="train-only", **LABELS)
    assert list(report.models) == ["student"] and list(report.test.metrics) == ["student"]
    assert "on 40 training rows" in " ".join(report.preflight["lines"])


def test_a_run_goes_on_bit_for_bit(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_cells(world / "data", "train", 4, NAMES)
    resumes_bit_for_bit(monkeypatch, 4, 10, write(world, COLUMNS["probabilities"]), **LABELS)


def test_a_regression_with_unlabelled_texts(world: Path) -> None:
    empty_cells(world / "data", "train", 4, ["z_positive"])
    save(world, "more", [{"sentence": row["sentence"], "z_positive": 0.25} for row in sentences(8, 9)])
    given = {"task.unlabelled": str(world / "more.csv"), "vocabulary": "seen"}
    report = run(write(world, "{columns: [z_positive]}", "LogitsMSE", "regression"), name="numbers", **given)
    assert report.timeline[0]["stop_step"] == 12 and report.models["teacher"].metrics["pearson"] > 0.5
