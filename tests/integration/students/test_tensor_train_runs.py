"""Whole runs of students whose token embeddings are a tensor train: distilled, pruned, int8, resumed, as teachers."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError
from tests.helpers.runs import resumes_bit_for_bit


def student(rank: int) -> dict:
    return {"kind": "Transformer", "layers": 2, "embeddings": {"kind": "TensorTrain", "rank": rank}}


STUDENT = student(4)
NEURONS = {"kind": "Magnitude", "shape": "neurons", "sparsity": {"kind": "Cubic", "to": 0.25, "stop": "50%"}}
TABLE = {
    "kind": "Magnitude",
    "where": ["embeddings"],
    "sparsity": {"kind": "Cubic", "to": 0.5, "start": "10%", "stop": "60%"},
}


def test_distilled_pruned_and_int8_it_teaches_the_next(tiny_run: Path) -> None:
    report = run(tiny_run, student=STUDENT, prune={"neurons": NEURONS, "table": TABLE})
    model = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert json.loads((report.folder / "student" / "config.json").read_text())["embeddings"]["ranks"] == [4, 4]
    cores = list(model.get_input_embeddings().cores)
    assert all(0.45 < float((core.weight == 0).float().mean()) < 0.55 for core in cores)
    assert report.parity["folded"] < 1e-5 and report.parity["cut"] < 1e-5 and report.parity["exported"] < 0.1
    assert report.exports[0].agreement > 0.9
    student, losses = {"kind": "LSTM", "hidden": 8}, {"logits": {"kind": "Logits"}}
    given = {"teacher": str(report.folder), "student": student, "losses": losses, "prune": None, "quantize": None}
    next_report = run(tiny_run, name="next", **given)
    assert next_report.models["teacher"].metrics == report.models["student in torch"].metrics


def test_resumes_bit_for_bit(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resumes_bit_for_bit(monkeypatch, 7, 16, tiny_run, student=STUDENT, prune={"neurons": NEURONS, "table": TABLE})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": student(0)}, "student.embeddings.rank: at least 1 is needed, not 0"),
        ({"student": student(4000)}, "student.embeddings.rank: 4000 makes the token embeddings no smaller"),
        (
            {"student": STUDENT, "prune": {"kind": "Taylor", "shape": "hidden", "sparsity": 0.25}},
            "prune.shape: hidden dimensions cannot be pruned, since the token embeddings are no matrix",
        ),
        ({"student": STUDENT, "vocabulary": "seen"}, "vocabulary: the token embeddings are no matrix"),
    ],
)
def test_a_mistake_is_told_where_it_is(tiny_run: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tiny_run, **changes)
