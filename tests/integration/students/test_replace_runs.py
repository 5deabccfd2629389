"""A run in which the student's blocks replace the teacher's, pruned and in int8: resumed, refused."""

from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError
from tests.helpers.runs import resumes_bit_for_bit, rows

REPLACE = {
    "student": {"kind": "Transformer", "layers": 2},
    "losses.relations": None,
    "trainer.max_epochs": 1,
    "replace": {"kind": "Linear", "initial": 0.3, "to": 1.0, "stop": "80%"},
}


def test_continues_bit_for_bit_and_leaves_a_stock_model(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = resumes_bit_for_bit(monkeypatch, 5, 8, tiny_run, **REPLACE)
    shares = [float(row["replace"]) for row in rows(folder) if row["replace"]]
    assert shares[0] == 0.3 and shares[-1] == 1.0 and shares == sorted(shares)
    report = run(tiny_run, quantize=None, **REPLACE)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert student.config.num_hidden_layers == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"student": {"kind": "Transformer", "hidden": 24, "heads": 4}},
            r"^--replace: needs a .* hidden_size, 32, not",
        ),
        (
            {"student": {"kind": "Transformer", "attention": {"kind": "Performer"}}},
            r"^--replace: needs a student with the teacher's attention, full",
        ),
        ({"trainer.precision": "bf16-true"}, r"^--trainer.precision: the teacher's blocks are float32"),
        ({"replace": 1.5}, r"^--replace: is 1.5 at step 0; it is a probability, from 0 to 1"),
        (
            {"losses.relations": {"kind": "Relations", "layers": "top", "heads": 4, "start": "4 steps"}},
            r"^--losses.relations: needs attention, which a block has .* and replace may skip it at step 4",
        ),
        ({"teacher": None, "losses": {"labels": {"kind": "Labels"}}}, r"^--replace: there is no teacher whose blocks"),
        ({"replace": {"kind": "Linear", "to": 1.0, "stop": "9 epochs"}}, r"^--replace: .*9 epochs' is step 72"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tiny_run: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tiny_run, **REPLACE | changes)
    assert not (tiny_run.parent / "runs").exists()
