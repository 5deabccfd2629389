"""A file of a student with shared layers holds each weight once, and is loaded as any other."""

import copy
import os
import subprocess
import sys

import onnx
import pytest
import torch

from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel, int8_saturates
from students.families.families import blocks
from students.structure.sharing import share_layers
from tests.helpers.families import batch, tiny
from tests.helpers.students.shared import build, logits


def test_another_process_loads_it_with_the_auto_classes(tmp_path):
    student = build(tiny("bert", layers=4))
    student.save_pretrained(tmp_path)
    code = (
        "import sys, torch, students; from transformers import AutoModelForSequenceClassification as Auto;"
        f"model = Auto.from_pretrained({str(tmp_path)!r}).eval();"
        "print(model.num_parameters(), float(model(torch.tensor([[2, 7, 9, 3]])).logits.abs().sum()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    count, total = done.stdout.split()
    with torch.no_grad():
        expected = float(student(torch.tensor([[2, 7, 9, 3]])).logits.abs().sum())
    assert int(count) == student.num_parameters() and float(total) == pytest.approx(expected, rel=1e-5)


def test_a_copy_shares_as_well():
    student = build(tiny("bert", layers=4))
    other = copy.deepcopy(student)
    with torch.no_grad():
        blocks(other)[0].output.dense.weight.zero_()
    assert not blocks(other)[3].output.dense.weight.any() and blocks(student)[3].output.dense.weight.any()


@pytest.mark.parametrize("name", ["bert", pytest.param("t5", marks=pytest.mark.slow)])
def test_an_onnx_file_holds_each_weight_once(name, tmp_path, monkeypatch):
    teacher = tiny(name, layers=2, hidden=64, intermediate=256)
    student, given = build(teacher), batch(name)
    export_onnx(student, given, tmp_path / "whole.onnx")
    quantize_onnx(tmp_path / "whole.onnx", tmp_path / "int8.onnx")
    size = 4 * student.num_parameters()
    assert (tmp_path / "whole.onnx").stat().st_size < 1.1 * size
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * size
    constants = [tensor for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer if len(tensor.dims) == 2]
    # position bias and scales of looked-up rows stay float32; no matrix does
    large = [tensor.name for tensor in constants if tensor.data_type == onnx.TensorProto.FLOAT and min(tensor.dims) > 4]
    assert large == []
    torch.testing.assert_close(OnnxModel(tmp_path / "whole.onnx")(given), logits(student, name), rtol=1e-4, atol=1e-4)
    outputs = []
    for old in (False, True):  # a CPU whose exact products do not bear a matrix that two of them read
        monkeypatch.setattr("quant_aware.export.onnx_model.int8_saturates", lambda old=old: old)
        outputs.append(OnnxModel(tmp_path / "int8.onnx")(given))
    assert int8_saturates() or torch.equal(*outputs)
    assert (outputs[1] - logits(student, name)).abs().max() < 0.3


@pytest.mark.parametrize(
    "named", [{}, {"encoder": [0, 0]}, {"encoder": [0, 0, 1, 1]}, {"encoder": [0, 0, 0, 9]}], ids=str
)
def test_a_config_that_names_other_blocks_is_refused(named):
    with pytest.raises(ValueError, match="^share_layers: does not list the blocks of this bert"):
        share_layers(tiny("bert", layers=4), {"shared_modules": "all", "blocks": named})
