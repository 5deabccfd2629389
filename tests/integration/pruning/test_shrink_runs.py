"""Whole runs whose student gets smaller while it trains: they end as those with masks do, best state included."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.reporting.details import page_details
from tests.helpers.runs import checkpoint, interrupted, resumes_bit_for_bit, rows, weights

NEURONS = {"kind": "Magnitude", "shape": "neurons", "sparsity": {"kind": "Cubic", "to": 0.25, "stop": "40%"}}
HEADS = {"kind": "Magnitude", "shape": "heads", "sparsity": {"kind": "Cubic", "to": 0.5, "stop": "60%"}}
ELEMENTS = {
    "kind": "Magnitude",
    "where": ["attention", "ffn"],
    "sparsity": {"kind": "Cubic", "to": 0.3, "stop": "30%"},
}
PRUNE = {"prune": {"elements": ELEMENTS, "neurons": NEURONS, "heads": HEADS}}
LAYER = "bert.encoder.layer.0"


def counts(state: dict[str, torch.Tensor], prefix: str = "student.") -> tuple[int, int]:
    """The neurons and the outputs of the query, 6 for a head, of the first block."""
    plain = {name.replace("parametrizations.", "").replace(".original", ""): value for name, value in state.items()}
    parts = ("intermediate.dense", "attention.self.query")
    return tuple(len(plain[f"{prefix}{LAYER}.{part}.weight"]) for part in parts)


def masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing is cut before the end."""
    monkeypatch.setattr("distill.training.trainer.earliest_cut_steps", lambda *_: {})


def test_a_run_ends_as_with_masks(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"prune": {"elements": ELEMENTS, "neurons": NEURONS}, "quantize": None}
    cut = run(tiny_run, name="cut", **given)
    masked(monkeypatch)
    other = run(tiny_run, name="masked", **given)
    assert [counts(weights(report.folder))[0] for report in (cut, other)] == [24, 32]
    for left, right in zip(rows(cut.folder), rows(other.folder), strict=True):
        for key in left:
            expected = pytest.approx(float(right[key]), abs=1e-5, rel=1e-5) if right[key] else None
            assert (float(left[key]) if left[key] else None) == expected, (left["step"], key)
    cut_student, masked_student = (report.models["student"] for report in (cut, other))
    for figure in ("parameters", "nonzero_parameters", "bytes", "flops_per_example", "metrics"):
        assert getattr(cut_student, figure) == getattr(masked_student, figure), figure
    left, right = (
        AutoModelForSequenceClassification.from_pretrained(report.folder / "student") for report in (cut, other)
    )
    assert left.config.intermediate_size == right.config.intermediate_size == 24
    for (name, weight), expected in zip(left.named_parameters(), right.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, atol=1e-4, rtol=1e-3, msg=name)


def test_the_page_tells_what_was_there_before_the_run(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "distill.reporting.write_report.page_details", lambda *given: seen.append(page_details(*given)) or seen[0]
    )
    run(tiny_run, **PRUNE | {"quantize": None})
    layers = {layer["name"]: layer for layer in seen[0]["layers"]}
    inner, query = (layers[f"{LAYER}.{part}"] for part in ("intermediate.dense", "attention.self.query"))
    assert (inner["parameters"], inner["parameters_before"]) == (24 * 24, 32 * 24)
    assert (query["parameters"], query["parameters_before"]) == (12 * 24, 24 * 24)
    assert 0.1 < inner["sparsity"] < 0.4


@pytest.mark.parametrize("stop", [6, 8, 10])
def test_resumes_bit_for_bit_with_two_cuts(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """Neurons are cut at step 6, heads at 10, when the relations of heads have stopped; int8 starts at 11."""
    folder = resumes_bit_for_bit(monkeypatch, stop, 16, tiny_run, **PRUNE)
    assert counts(weights(folder)) == (24, 12)
    assert counts(checkpoint(folder, "best")["state_dict"]) == (24, 12)


def test_a_resumed_run_is_deployed(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = PRUNE | {"trainer.val_check_interval": 2}
    interrupted(monkeypatch, 12, tiny_run, **given)
    assert counts(weights(tiny_run.parent / "runs" / "tiny")) == (24, 12)
    report = run(tiny_run, resume=True, **given)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert counts(student.state_dict(), "") == (24, 12)
    assert report.exports[0].agreement > 0.9 and report.parity["cut"] < 1e-5


def test_heads_stay_as_long_as_a_loss_looks_at_attention(tiny_run: Path) -> None:
    report = run(tiny_run, **PRUNE | {"losses.relations.stop": "90%", "quantize": None})
    assert counts(weights(report.folder)) == (24, 24)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert counts(student.state_dict(), "") == (24, 12)


@pytest.mark.parametrize(
    "beside, left",
    [
        ({"teacher": {"decay": 0.9}}, 64),
        ({"teacher": {"peer": {"kind": "Transformer", "layers": 2, "weights": "random"}}}, 48),
        ({"replace": 0.5}, 48),
    ],
)
def test_beside_others(tiny_run: Path, materials: Path, monkeypatch: pytest.MonkeyPatch, beside: dict, left: int):
    """The moving average follows each weight, so nothing is cut; a peer or replaced blocks do not mind."""
    losses = {"labels": {"kind": "Labels"}, "logits": {"kind": "Logits"}}
    given = {"student": str(materials / "teacher"), "losses": losses, "prune": NEURONS} | beside
    folder = resumes_bit_for_bit(monkeypatch, 7, 16, tiny_run, **given)
    assert counts(weights(folder))[0] == left


@pytest.mark.parametrize("stop", [6, 9])
def test_pruners_that_keep_what_they_have_seen_go_on(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Their gates and hooks still know the units that were cut at step 6."""
    schedule = {"kind": "Cubic", "to": 0.25, "start": "10%", "stop": "40%"}
    neurons = {"kind": "Movement", "shape": "neurons", "sparsity": schedule}
    elements = {"kind": "Wanda", "sparsity": schedule, "batches": 1}
    given = {"prune": {"elements": elements, "neurons": neurons}, "quantize": None}
    folder = resumes_bit_for_bit(monkeypatch, stop, 16, tiny_run, **given)
    assert counts(weights(folder))[0] == 24


def test_a_penalty_goes_on_after_the_cut(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On what is left, as it would beside masks."""
    schedule = {"kind": "Cubic", "to": 0.25, "start": "10%", "stop": "40%"}
    neurons = {"kind": "Magnitude", "shape": "neurons", "sparsity": schedule, "penalty": 0.01}
    given = {"prune": neurons, "quantize": None}
    interrupted(monkeypatch, 16, tiny_run, name="cut", **given)
    masked(monkeypatch)
    interrupted(monkeypatch, 16, tiny_run, name="masked", **given)
    penalties = [
        [float(row["penalty"]) for row in rows(tiny_run.parent / "runs" / name) if row["penalty"]]
        for name in ("cut", "masked")
    ]
    assert len(penalties[0]) == 16 and min(penalties[0]) > 0.1
    assert penalties[0] == pytest.approx(penalties[1], rel=1e-4)
