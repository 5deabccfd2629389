"""Recurrent networks from training to ONNX, in float32 and with the 8 bits that they were trained with."""

import onnx
import pytest
import torch
from onnx import numpy_helper
from transformers import AutoModelForCausalLM, AutoModelForQuestionAnswering, AutoModelForTokenClassification

from distill.evaluation.measure import torch_predict
from prune_schedules.schedule import Timeline
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.quantize import Quantize
from students.kinds.recurrent import GRU, LSTM, RNN
from students.recording.model_io import model_inputs
from students.weights import fold
from tests.helpers.families import batch, tiny

pytestmark = pytest.mark.usefixtures("one_thread")

STUDENTS = {
    "LSTM": LSTM(hidden=8, layers=2),
    "ahead": LSTM(hidden=8, bidirectional=False),
    "projected": LSTM(hidden=8, layers=2, projection=5),
    "GRU": GRU(hidden=8, layers=2),
    "RNN": RNN(hidden=8, bidirectional=False),
}
HEADS = {
    "tokens": (LSTM(hidden=8), AutoModelForTokenClassification),
    "answers": (GRU(hidden=8), AutoModelForQuestionAnswering),
    "language": (LSTM(hidden=8), AutoModelForCausalLM),
}


def wide(student, *head):
    """The model, with weights wide of their start, so that a mistake shows."""
    torch.manual_seed(0)
    model = student.build(tiny("bert"), {0: "a", 1: "b", 2: "c"}, None, *head).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    return model


def samples(model) -> list[dict[str, torch.Tensor]]:
    """Batches of other sizes than the one that is exported."""
    batches = [batch("bert"), batch("bert", size=1, length=5, seed=1), batch("bert", size=7, length=19, seed=2)]
    return [model_inputs(model, given_batch) for given_batch in batches]


@pytest.mark.parametrize("name", HEADS)
def test_heads_for_tokens_are_exported(name, tmp_path):
    student, head = HEADS[name]
    model = wide(student, head)
    export_onnx(model, batch("bert", length=6), tmp_path / "x.onnx")
    for given in samples(model):
        actual, expected = OnnxModel(tmp_path / "x.onnx")(given), torch_predict(model)(given)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def trained(model, quantize: Quantize) -> None:
    """Puts the numerics on, as at the end of a run."""
    quantize.skipped = quantize.attach(model)
    quantize.update(1, Timeline(total_steps=1, epoch_steps=1))
    quantize.quantize_full_embeddings()


@pytest.mark.parametrize("name", STUDENTS)
def test_the_file_is_what_was_trained_for_any_batch_and_length(name, tmp_path):
    model, quantize = wide(STUDENTS[name]), Quantize()
    plain = [torch_predict(model)(given) for given in samples(model)]
    trained(model, quantize)
    expected = [torch_predict(model)(given) for given in samples(model)]
    fold(model)
    assert all(torch.equal(torch_predict(model)(g), e) for g, e in zip(samples(model), expected, strict=True))
    quantize.remove_input_hooks()
    export_onnx(model, batch("bert"), tmp_path / "x.onnx")
    onnx.checker.check_model(tmp_path / "x.onnx", full_check=True)
    plainly = OnnxModel(tmp_path / "x.onnx")
    assert plainly.inputs == ["input_ids", "attention_mask"], "token types are not looked at"
    for given in samples(model):
        torch.testing.assert_close(plainly(given), torch_predict(model)(given), rtol=1e-4, atol=1e-5)
    quantize_onnx(tmp_path / "x.onnx", tmp_path / "q.onnx")
    exported = OnnxModel(tmp_path / "q.onnx")
    for given, logits, float32 in zip(samples(model), expected, plain, strict=True):
        torch.testing.assert_close(exported(given), logits, rtol=1e-4, atol=1e-4)
        assert (logits - float32).abs().max() > 1e-3, "rounding is seen"
    file = onnx.load(tmp_path / "q.onnx")
    kinds = {node.op_type for node in file.graph.node}
    rounded = name in ("LSTM", "ahead")
    assert ("DynamicQuantizeLSTM" in kinds) == rounded
    assert kinds & {"LSTM", "GRU", "RNN"} == (set() if rounded else {"LSTM" if name == "projected" else name})
    floats = [t for t in file.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert max(numpy_helper.to_array(t).size for t in floats) <= 128, "scales and biases, no matrix"
    held = [key for key in quantize.skipped if "layers" in key]
    assert bool(held) != rounded and not set(held) & set(quantize.quantized_inputs(model))
