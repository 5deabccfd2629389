"""Students with another attention: built from a teacher, padded, saved, traced, cut, asked to write, exported."""

import pytest
import torch

from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from students.families.families import blocks, is_causal
from students.forms.attention import (
    BlockAttention,
    EfficientAttention,
    FixedAttention,
    LinearAttention,
    Linformer,
    LocalAttention,
    Performer,
)
from students.kinds.transformer import Transformer
from students.structure.units import heads, shrink
from tests.helpers.families import batch, tiny
from tests.helpers.students.attentions import EACH, KINDS, logits, long, student


@EACH
def test_gradients_reach_everything(kind):
    model, inputs = student(kind).train(), long("bert")
    model(**inputs).loss.backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name


@EACH
def test_in_half_precision_it_says_nearly_the_same(kind):
    model, inputs = student(kind), long("bert")
    expected = logits(model, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        actual = logits(model, inputs)
    assert actual.isfinite().all() and (actual - expected).abs().max() < 0.2
    assert logits(model.bfloat16(), inputs).isfinite().all()


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "llama"])
def test_with_defaults_a_window_is_the_teacher_on_short_texts(name):
    teacher = tiny(name)
    model = Transformer(attention=LocalAttention()).build(teacher, None, None).eval()
    torch.testing.assert_close(logits(model, batch(name)), logits(teacher, batch(name)), rtol=0, atol=1e-5)


def test_blocks_may_be_fewer_and_started_anywhere():
    model = student(LocalAttention, layers=1, hidden=16, heads=2, weights="random")
    assert len(blocks(model)) == 1 and not is_causal(model.config)
    assert model.config.attention == {"kind": "LocalAttention", "window": 8, "global_tokens": 1}


@pytest.mark.parametrize(
    "kind, fields, name, message",
    [
        (LocalAttention, {"window": 0}, "bert", "window: at least 2 is needed, not 0"),
        (LocalAttention, {"window": 9}, "bert", "window: must be even, with half of it on each side, not 9"),
        (LocalAttention, {"global_tokens": -1}, "bert", "global_tokens: at least 0 is needed, not -1"),
        (FixedAttention, {"summaries": 0}, "bert", "summaries: at least 1"),
        (FixedAttention, {"block": 4, "summaries": 5}, "bert", "summaries: a block has 4 tokens, not 5"),
        (BlockAttention, {"blocks": 0}, "bert", "blocks: at least 1"),
        (BlockAttention, {"blocks": 5}, "bert", "blocks: at most 4 are possible with 4 heads, not 5"),
        (Performer, {"features": 0}, "bert", "features: at least 1"),
        (Linformer, {"length": 0}, "bert", "length: at least 1"),
        (Linformer, {"length": 67}, "bert", "length: the student reads 66 tokens, fewer than 67"),
        (Linformer, {}, "gpt2", "kind: Linformer is for encoders only, not for a gpt2: a projected key mixes"),
        (BlockAttention, {}, "llama", "kind: BlockAttention is for encoders only, not for a llama: its blocks attend"),
        (EfficientAttention, {}, "gpt2", "kind: EfficientAttention is for encoders"),
        (
            LocalAttention,
            {},
            "t5",
            "kind: the heads of a t5 are bound together, as by a position bias, which LocalAttention does not",
        ),
    ],
)
def test_what_does_not_fit_is_refused(kind, fields, name, message):
    with pytest.raises(ValueError, match=f"^(attention: )?{message}"):
        Transformer(attention=kind(**fields)).check(tiny(name).config)


AS_OTHERS = (LinearAttention,)
"""A whole run exports it, and Performer has its products."""


@pytest.mark.parametrize(
    "kind, name",
    [
        *((kind, "bert") for kind in KINDS if kind not in AS_OTHERS),
        *(pytest.param(kind, "bert", marks=pytest.mark.slow) for kind in AS_OTHERS),
        pytest.param(FixedAttention, "llama", marks=pytest.mark.slow),
        pytest.param(LinearAttention, "gpt2", marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_its_onnx_file_reads_any_length(kind, name, tmp_path):
    """Shorter and longer texts than the one it was written with; int8 leaves products of activations alone."""
    model = student(kind, name, teacher=tiny(name, layers=1))
    export_onnx(model, batch(name, length=7), tmp_path / "model.onnx")
    run = OnnxModel(tmp_path / "model.onnx")
    for size, length in ((1, 2), (3, 40), (2, 120)):
        inputs = batch(name, size=size, length=length)
        torch.testing.assert_close(run(inputs), logits(model, inputs), rtol=0, atol=1e-5)
    quantize_onnx(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    assert (OnnxModel(tmp_path / "int8.onnx")(inputs) - logits(model, inputs)).abs().max() < 0.3


@EACH
def test_all_heads_of_a_layer_are_cut_out(kind, tmp_path):
    model, inputs = student(kind), long("bert")
    units = heads(model)[0]
    shrink(units, torch.zeros(units.count, dtype=torch.bool))
    assert logits(model, inputs).isfinite().all()
