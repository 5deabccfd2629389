"""Whole runs at whose end hidden dimensions are gone: resumed, exported, reported."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError
from students.structure.inherit import head_shape
from tests.helpers.runs import checkpoint, resumes_bit_for_bit, weights

HIDDEN = {"kind": "Taylor", "shape": "hidden", "sparsity": {"kind": "Cubic", "to": 0.25, "start": "10%", "stop": "40%"}}
NEURONS = {"kind": "Magnitude", "shape": "neurons", "sparsity": {"kind": "Cubic", "to": 0.25, "stop": "30%"}}
PRUNE = {"prune": {"hidden": HIDDEN, "neurons": NEURONS}}
LAYER = "student.bert.encoder.layer.0"


def test_a_run_that_prunes_hidden_dimensions(tiny_run: Path) -> None:
    """With losses on hidden states and attention, and int8."""
    report = run(tiny_run, **PRUNE)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert student.config.hidden_size == 18 and student.config.model_type == "compact-bert"
    assert student.bert.pooler.dense.weight.shape == (18, 18)
    assert report.parity["folded"] < 1e-5 and report.parity["cut"] < 1e-5
    assert report.exports[0].agreement > 0.9
    models = json.loads((report.folder / "report.json").read_text())["models"]
    assert models["student"]["parameters"] == student.num_parameters()
    assert models["student"]["flops_per_example"] < models["teacher"]["flops_per_example"]
    assert re.search(r"\bnan\b", (report.folder / "report.html").read_text(), re.I) is None
    with (report.folder / "metrics.csv").open() as file:
        sparsity = [float(row["sparsity"]) for row in csv.DictReader(file) if row["sparsity"]]
    assert sparsity[0] < 0.1 and sparsity[-1] > 0.25


@pytest.mark.parametrize("stop", [4, 8])
def test_resumes_bit_for_bit(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """Before masks stand, and when neurons have been cut beside them."""
    folder = resumes_bit_for_bit(monkeypatch, stop, 16, tiny_run, **PRUNE)
    for state in (weights(folder), checkpoint(folder, "best")["state_dict"]):
        assert int(state[f"{LAYER}.output.LayerNorm.masked_norm.mask"].sum()) == 18
        assert len(state[f"{LAYER}.intermediate.dense.parametrizations.weight.original"]) == 24


def test_no_moving_average_beside_it(tiny_run: Path, materials: Path) -> None:
    given = {"student": str(materials / "teacher"), "losses": {"labels": {"kind": "Labels"}}}
    with pytest.raises(ConfigError, match="prune: a moving average of the student keeps part of pruned hidden dim"):
        run(tiny_run, teacher={"decay": 0.9}, prune=HIDDEN, **given)


def test_the_next_run_starts_from_what_was_cut(tiny_run: Path) -> None:
    """As its student, with a loss on states of another width than the teacher's."""
    first = run(tiny_run, **PRUNE | {"name": "first", "quantize": None})
    second = run(tiny_run, name="second", student=str(first.folder), quantize=None, prune=None)
    student = AutoModelForSequenceClassification.from_pretrained(second.folder / "student")
    assert student.config.hidden_size == 18 and torch.isfinite(student.classifier.weight).all()
    assert student.config.original_widths == {"hidden_size": 24} and head_shape(student.config) == (4, 1, 6)
