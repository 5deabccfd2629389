"""Whole runs of students whose blocks share layers: distilled, pruned, in few bits, resumed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError
from quant_aware.export import packed
from students.structure.sharing import group_shared_blocks
from tests.helpers.runs import resumes_bit_for_bit

SHARED = {"student": {"kind": "Transformer", "hidden": 24, "heads": 4, "intermediate": 32, "share_layers": {}}}
NEURONS = {"kind": "Magnitude", "shape": "neurons", "sparsity": {"kind": "Cubic", "to": 0.25, "stop": "40%"}}


def sharing_student(**fields: object) -> dict:
    return {"kind": "Transformer", "share_layers": fields}


HEADS = {"kind": "Taylor", "shape": "heads", "sparsity": {"kind": "Cubic", "to": 0.25, "start": "10%", "stop": "50%"}}


@pytest.mark.parametrize(
    "more",
    [{"shared_modules": "ffn", "groups": 2}, pytest.param({}, marks=pytest.mark.slow)],
    ids=["ffn of halves", "all"],
)
def test_distilled_pruned_and_int8(tiny_run: Path, more: dict) -> None:
    given = {"student": SHARED["student"] | {"share_layers": more}, "prune": {"neurons": NEURONS, "heads": HEADS}}
    report = run(tiny_run, **given)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert student.config.num_hidden_layers == 4
    assert [len(group) for group in group_shared_blocks(list(student.bert.encoder.layer))] == ([2, 2] if more else [4])
    assert all(block.intermediate.dense.out_features == 24 for block in student.bert.encoder.layer)
    assert all(0 < block.attention.self.num_attention_heads <= 3 for block in student.bert.encoder.layer)
    assert report.parity["folded"] < 1e-5 and report.parity["cut"] < 1e-5
    assert report.exports[0].agreement > 0.9
    entry = json.loads((report.folder / "report.json").read_text())["models"]["student"]
    assert entry["parameters"] == student.num_parameters()
    saved = load_file(report.folder / "student" / "model.safetensors")
    assert sum(weight.numel() for weight in saved.values()) == student.num_parameters()


@pytest.mark.parametrize("shape", ["hidden", "layers"])
def test_hidden_dimensions_and_branches_are_pruned_too(tiny_run: Path, shape: str) -> None:
    pruner = {"kind": "Taylor", "shape": shape, "sparsity": {"kind": "Cubic", "to": 0.5, "start": "10%", "stop": "50%"}}
    report = run(tiny_run, prune=pruner, quantize=None, student=sharing_student(shared_modules="attention"))
    assert report.parity["folded"] < 1e-5 and report.parity["cut"] < 1e-5
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert student.config.hidden_size == (16 if shape == "hidden" else 32)
    assert len(group_shared_blocks(list(student.bert.encoder.layer))) == 1


def test_it_resumes_bit_for_bit(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before neurons have been cut and after."""
    resumes_bit_for_bit(monkeypatch, 8, 16, tiny_run, **SHARED)


def test_a_packed_file_holds_each_weight_once(tiny_run: Path) -> None:
    report = run(tiny_run, quantize={"weights": 4, "start": "50%"}, **SHARED)
    model = packed.load(report.folder, AutoModelForSequenceClassification)
    assert [len(group) for group in group_shared_blocks(list(model.bert.encoder.layer))] == [4]
    names = [name for name in load_file(report.folder / packed.FILE) if ".layer." in name]
    assert {name.split(".layer.")[1].split(".")[0] for name in names} == {"0"}
    assert report.exports[0].agreement == 1.0


def test_its_blocks_take_the_place_of_the_teachers(tiny_run: Path) -> None:
    given = {"student": sharing_student() | {"layers": 2}, "replace": 0.5, "losses.relations": None, "quantize": None}
    report = run(tiny_run, **given)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert len(group_shared_blocks(list(student.bert.encoder.layer))) == 1 and report.parity["folded"] < 1e-5


def test_the_next_run_goes_on_with_it(tiny_run: Path) -> None:
    first = run(tiny_run, name="first", **SHARED | {"quantize": None, "prune": None})
    second = run(tiny_run, name="second", student=str(first.folder), quantize=None)
    student = AutoModelForSequenceClassification.from_pretrained(second.folder / "student")
    assert len(group_shared_blocks(list(student.bert.encoder.layer))) == 1
    assert torch.isfinite(student.classifier.weight).all()


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"student": sharing_student(groups=9)},
            r"^--student: student.share_layers.groups: 9 groups of the 4 blocks share",
        ),
        (
            {"student": sharing_student(groups=0)},
            r"^--student: student.share_layers.groups: at least 1 is needed, not 0",
        ),
        (
            {"student": sharing_student(shared_modules="al")},
            r"^--student: student.share_layers.shared_modules: 'al' is not one of all, attention, ffn",
        ),
        (
            {"student": sharing_student(keep_end=True)},
            r"^--student: student.share_layers.keep_end: ShareLayers has no 'keep_end'; did you",
        ),
    ],
)
def test_a_wrong_value_is_told_in_one_line(tiny_run: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        run(tiny_run, **changes)
    assert "\n" not in str(error.value)
