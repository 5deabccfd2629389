"""Whole runs of students with another attention: distilled, pruned, int8, cut, resumed."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError
from students.attention.linformer import LinformerCore
from tests.helpers.runs import resumes_bit_for_bit, weights

HEADS = {
    "kind": "Magnitude",
    "shape": "heads",
    "sparsity": {"kind": "Cubic", "to": 0.25, "start": "10%", "stop": "50%"},
}
ELEMENTS = {"kind": "Magnitude", "sparsity": {"kind": "Cubic", "to": 0.5, "start": "10%", "stop": "60%"}}
NEURONS = {"kind": "Magnitude", "shape": "neurons", "sparsity": {"kind": "Cubic", "to": 0.25, "stop": "60%"}}
PRUNE = {"prune": {"heads": HEADS, "elements": ELEMENTS, "neurons": NEURONS}}


def student(**attention: object) -> dict:
    return {"kind": "Transformer", "layers": 1, "attention": attention}


LINFORMER = student(kind="Linformer", length=8)
LOCAL = student(kind="LocalAttention", window=4)
BRIEF = [LOCAL, student(kind="LinearAttention"), LINFORMER]
LONG = [
    student(kind="FixedAttention", block=4, summaries=1),
    student(kind="BlockAttention", blocks=3),
    student(kind="Performer", features=16),
    student(kind="EfficientAttention"),
]
"""Whose files `tests/unit/students` compares at every length; their whole runs are as those of the others."""
STUDENTS = [*BRIEF, *(pytest.param(student, marks=pytest.mark.slow) for student in LONG)]


@pytest.mark.parametrize("form", STUDENTS, ids=lambda form: form["attention"]["kind"])
def test_it_is_distilled_pruned_and_int8(tiny_run: Path, form: dict) -> None:
    """With losses on hidden states, relations and logits; what is exported is what was trained."""
    report = run(tiny_run, student=form, **PRUNE)
    model = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert model.config.attention["kind"] == form["attention"]["kind"]
    assert [block["heads"] for block in model.config.block_sizes["encoder"]] == [3]
    assert model.config.block_sizes["encoder"][0]["intermediate"] < 64
    assert report.parity["folded"] < 1e-5 and report.parity["cut"] < 1e-5 and report.parity["exported"] < 0.1
    assert report.exports[0].agreement > 0.9
    metrics = (report.folder / "metrics.csv").read_text()
    assert "nan" not in metrics and re.search(r"\bnan\b", (report.folder / "report.html").read_text(), re.I) is None


@pytest.mark.parametrize("form", [LINFORMER, student(kind="Performer", features=16)], ids=["learned", "drawn"])
def test_resumes_bit_for_bit(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, form: dict) -> None:
    resumes_bit_for_bit(monkeypatch, 7, 16, tiny_run, student=form, **PRUNE)


def test_projections_are_learned(tiny_run: Path) -> None:
    report = run(tiny_run, student=LINFORMER | {"max_position_embeddings": 32}, quantize=None, prune=None)
    state = weights(report.folder)
    for name in ("keys", "values"):
        learned = state[f"student.bert.encoder.layer.0.attention.self.core_attention.{name}"]
        assert learned.shape == (8, 32) and not torch.allclose(learned, LinformerCore(8, 32, False).keys, atol=1e-4)


def test_the_next_run_starts_from_it_and_it_can_teach(tiny_run: Path) -> None:
    first = run(tiny_run, name="first", student=LOCAL, quantize=None, **PRUNE)
    second = run(
        tiny_run, name="second", student=str(first.folder), teacher=str(first.folder), prune=None, quantize=None
    )
    assert json.loads((second.folder / "student" / "config.json").read_text())["attention"]["window"] == 4


def test_longer_texts_than_the_teachers(tiny_run: Path) -> None:
    """The first run gives the teacher more places; the second one's teacher reads what its student reads."""
    given = {"name": "longer", "losses": {"labels": {"kind": "Labels"}}, "prune": None, "quantize": None}
    longer = run(tiny_run, student={"kind": "Transformer", "max_position_embeddings": 200}, **given)
    config = json.loads((longer.folder / "student" / "config.json").read_text())
    assert (config["model_type"], config["max_position_embeddings"]) == ("bert", 200)
    assert json.loads((longer.folder / "student" / "tokenizer_config.json").read_text())["model_max_length"] == 200
    given |= {"name": "student", "teacher": str(longer.folder)}
    report = run(tiny_run, student=student(kind="LocalAttention") | {"max_position_embeddings": 150}, **given)
    assert json.loads((report.folder / "student" / "config.json").read_text())["max_position_embeddings"] == 150


def test_a_teacher_that_cannot_read_the_rows_is_refused(tiny_run: Path, materials: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(materials / "teacher")
    model.bert.embeddings.position_embeddings = torch.nn.Embedding(4, model.config.hidden_size)
    model.config.max_position_embeddings = 4
    model.save_pretrained(tmp_path / "short")
    for file in (materials / "teacher").glob("tokenizer*"):
        shutil.copy(file, tmp_path / "short")
    with pytest.raises(ConfigError, match=r"teacher.model: row \d+ of .* tokens, and '.*short' has 4 positions"):
        run(
            tiny_run,
            teacher=str(tmp_path / "short"),
            student=student(kind="LocalAttention") | {"max_position_embeddings": 200},
        )


@pytest.mark.parametrize(
    "form, message",
    [
        (
            student(kind="LocalAttention", window=3),
            "student.attention.window: must be even, with half of it on each side, not 3",
        ),
        (
            student(kind="Linformer", length=999),
            "student.attention.length: the student reads 128 tokens, fewer than 999",
        ),
    ],
)
def test_a_wrong_value_is_one_line(tiny_run: Path, form: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tiny_run, student=form)
