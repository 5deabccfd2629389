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
