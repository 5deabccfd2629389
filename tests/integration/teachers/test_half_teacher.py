"""A teacher runs in the precision in which it is stored; what is learnt from it is float32."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.experiment.runs import read_runs
from distill.teachers.teacher import FrozenTeacher, Teacher
from distill.training.prepare.plan import plan
from students.loading.stored import StoredPrecision
from students.recording.signals import Signals
from tests.helpers.families import batch, tiny
from tests.integration.exports.test_precision import in_precision

HALF = ["bfloat16", "float16"]
SHORT = {"trainer.max_epochs": 1, "prune": None, "quantize": None}
LOGITS = {"logits": {"kind": "Logits"}}
WAYS = {
    "all losses": {},
    "low rank": {"student": {"kind": "Transformer", "low_rank": {"rank": 8}}, "losses": LOGITS},
    "shared": {"student": {"kind": "Transformer", "share_layers": {}}, "losses": LOGITS},
    "tensor train": {
        "student": {"kind": "Transformer", "embeddings": {"kind": "TensorTrain", "rank": 4}},
        "losses": LOGITS,
    },
    "recurrent": {"student": {"kind": "LSTM", "hidden": 16}, "losses": LOGITS},
    "replace": {
        "student": {"kind": "Transformer", "layers": 2},
        "losses": LOGITS,
        "replace": {"kind": "Constant", "to": 0.5},
    },
    "autocast": {"trainer.precision": "bf16-mixed"},
}


@pytest.mark.parametrize(("kind", "dtype"), [*((kind, "bfloat16") for kind in WAYS), ("autocast", "float16")])
def test_every_student_learns_from_it_in_float32(kind, dtype, tiny_run, materials, tmp_path):
    teacher = in_precision(materials, tmp_path / "half", getattr(torch, dtype))
    report = run(tiny_run, teacher={"model": str(teacher), "dtype": dtype}, **(SHORT | WAYS[kind]))
    assert report.models["teacher"].precision == dtype
    weights = load_file(report.folder / "student" / "model.safetensors").values()
    assert {weight.dtype for weight in weights} == {torch.float32}


@pytest.mark.parametrize("dtype", HALF)
def test_it_is_held_as_it_is_stored(dtype, materials, tmp_path):
    folder = in_precision(materials, tmp_path / "half", getattr(torch, dtype))
    head = AutoModelForSequenceClassification
    assert Teacher(model=str(folder)).load(head).dtype == getattr(torch, dtype)
    assert Teacher(model=str(folder), dtype="float32").load(head).dtype == torch.float32
    assert Teacher(model=str(materials / "teacher"), dtype=dtype).load(head).dtype == getattr(torch, dtype)


@pytest.mark.parametrize(("dtype", "ran"), [(None, torch.float32), ("bfloat16", torch.bfloat16)])
def test_on_a_cpu_it_runs_in_float32_unless_told_otherwise(dtype, ran, tiny_run, materials, tmp_path):
    teacher = {"model": str(in_precision(materials, tmp_path / "half", torch.bfloat16)), "dtype": dtype}
    (config,) = read_runs(tiny_run, {"teacher": teacher, **SHORT})
    parts = plan(config, tmp_path / "run").parts
    assert parts.teachers["teacher"].model.dtype == ran
    assert any("stored in bfloat16, run in float32" in note for note in parts.notes) == (dtype is None)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "llama", "albert"])
def test_its_numbers_are_those_of_float32_up_to_its_precision(name, dtype):
    model, given = tiny(name), batch(name)
    signals = Signals(logits=True)
    exact = FrozenTeacher(tiny(name)).trace(given, signals).logits
    half = FrozenTeacher(model.to(getattr(torch, dtype)), StoredPrecision(dtype, 2))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = half.trace(given, signals).logits
    assert outputs.dtype == getattr(torch, dtype)
    relative_error = (outputs.float() - exact).abs().max() / exact.abs().max()
    assert 0 < relative_error < 16 * torch.finfo(outputs.dtype).eps
