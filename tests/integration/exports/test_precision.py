"""Sizes are those of the files: a teacher counts as it is stored, and a student may be saved in half precision."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError
from students.loading.stored import StoredPrecision, stored_precision
from tests.helpers.families import tiny
from tests.unit.students.loading.test_adapters import adapt

GIVEN = {"losses": {"logits": {"kind": "Logits"}}, "prune": None, "quantize": None}
STUDENT = {"kind": "Transformer", "layers": 3}


def size(folder: Path) -> int:
    """The bytes of all numbers in the files of a model."""
    files = folder.glob("model*.safetensors")
    return sum(weight.numel() * weight.itemsize for file in files for weight in load_file(file).values())


def in_precision(materials: Path, folder: Path, dtype: torch.dtype, **save: object) -> Path:
    """The teacher's folder, its weights in another precision."""
    shutil.copytree(materials / "teacher", folder)
    (folder / "model.safetensors").unlink()
    AutoModelForSequenceClassification.from_pretrained(materials / "teacher", dtype=dtype).save_pretrained(
        folder, **save
    )
    return folder


def test_a_float32_student_of_a_bfloat16_teacher_is_larger_and_the_report_says_so(tiny_run, materials, tmp_path):
    teacher = in_precision(materials, tmp_path / "half", torch.bfloat16)
    report = run(tiny_run, teacher=str(teacher), student=STUDENT, **GIVEN)
    models, student = report.models, report.folder / "student"
    assert (models["teacher"].bytes, models["teacher"].precision) == (size(teacher), "bfloat16")
    assert (models["student"].bytes, models["student"].precision) == (size(student), "float32")
    saved = json.loads((report.folder / "report.json").read_text())["ratios"]["smaller"]
    assert saved == pytest.approx(size(teacher) / size(student)) and saved < 0.75


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_student_is_saved_and_judged_in_half_precision(dtype, tiny_run, materials, tmp_path):
    teacher = in_precision(materials, tmp_path / "half", torch.bfloat16)
    report = run(tiny_run, teacher=str(teacher), student=STUDENT, save_dtype=dtype, **GIVEN)
    student = report.models["student"]
    assert {weight.dtype for weight in load_file(report.folder / "student" / "model.safetensors").values()} == {
        getattr(torch, dtype)
    }
    assert (student.bytes, student.precision) == (size(report.folder / "student"), dtype)
    assert report.ratios["smaller"] == pytest.approx(size(teacher) / size(report.folder / "student"))
    assert report.ratios["smaller"] > 1.1
    assert 0 < report.parity["saved"] < 0.05
    config = json.loads((report.folder / "student" / "config.json").read_text())
    assert config["dtype"] == dtype


def test_files_say_what_they_hold(materials, tmp_path):
    assert stored_precision(str(materials / "teacher")) == StoredPrecision("float32", 4)
    parts = in_precision(materials, tmp_path / "parts", torch.float16, max_shard_size="20KB")
    assert len(list(parts.glob("model-*.safetensors"))) > 2 and stored_precision(str(parts)) == StoredPrecision(
        "float16", 2
    )
    model = AutoModelForSequenceClassification.from_pretrained(materials / "teacher", dtype=torch.bfloat16)
    model.classifier.float()
    model.save_pretrained(tmp_path / "mixed")
    mixed = stored_precision(str(tmp_path / "mixed"))
    assert mixed.precision == "bfloat16" and 2 < mixed.bytes_per_weight < 2.1
    assert round(model.num_parameters() * mixed.bytes_per_weight) == size(tmp_path / "mixed")
    for file in (tmp_path / "mixed").glob("*.safetensors"):
        file.unlink()
    assert stored_precision(str(tmp_path / "mixed")).precision in ("bfloat16", "float32")  # what its config says
    adapt(tiny("bert"), tmp_path, "SEQ_CLS", ["query"])
    assert stored_precision(str(tmp_path / "adapter")) == StoredPrecision("float32", 4)


def test_what_is_made_of_float32_weights_is_refused(tiny_run):
    for other in ({"export": "onnx"}, {"quantize": {"weights": 8}}):
        name = next(iter(other))
        with pytest.raises(ConfigError, match=f"save_dtype: the file of {name} needs float32 weights"):
            run(tiny_run, save_dtype="bfloat16", **(GIVEN | other))


def test_numbers_that_half_precision_cannot_hold_are_told_before_the_first_step(tiny_run, materials, tmp_path):
    shutil.copytree(materials / "teacher", tmp_path / "wide")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "wide", dtype=torch.float32)
    with torch.no_grad():
        model.classifier.bias.fill_(1e6)
    model.save_pretrained(tmp_path / "wide")
    with pytest.raises(ConfigError, match="student: before the first step its outputs are not finite"):
        run(tiny_run, student=str(tmp_path / "wide"), save_dtype="float16", **GIVEN)
