"""Attentions and feed-forwards that are gone as a whole: the model computes, saves, loads, trains and exports."""

import onnx
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from prune_schedules.schedule import Timeline
from prune_schedules.structure.cut import cut
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.quantize import Quantize
from students.recording.signals import Signals, check_signals
from students.structure.units import branch_type, branches, heads, neurons
from students.weights import fold
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.branches import empty, gone, home_of, traced
from tests.helpers.pruning.models import mask

TIMELINE = Timeline(total_steps=10, epoch_steps=10)


def test_feed_forwards_that_are_all_gone_are_no_stock_model(tmp_path):
    """A stock GPT-2 without neurons can be made and cannot run."""
    model = tiny("gpt2")
    report = cut(empty(model, {"decoder.0.ffn", "decoder.1.ffn"}))
    assert not report.is_stock and [block["intermediate"] for block in model.config.block_sizes["decoder"]] == [0, 0]
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch("gpt2")).logits, model(**batch("gpt2")).logits)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_bias_that_is_not_zero_stays_and_is_added(name):
    model, inputs = tiny(name), batch(name)
    with torch.no_grad():
        for units in neurons(model)[:1] + heads(model)[1:]:
            for part in units.slices:
                getattr(part.module, part.name).zero_()
    before = model(**inputs).logits
    report = cut(model)
    assert [after for _, after in report.units.values()] == [0, 64, 4, 0]
    torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_an_empty_block_of_a_pre_norm_model_is_the_identity(name):
    trace = traced(gone(name, keep=1), name)
    assert torch.equal(trace.hidden["decoder", 2], trace.hidden["decoder", 1])
    assert not torch.equal(trace.hidden["decoder", 1], trace.hidden["decoder", 0])


def test_attention_without_heads_cannot_be_asked_for():
    model = tiny("bert")
    cut(empty(model, {"encoder.1.self"}))
    check_signals(model.config, Signals(attention=frozenset({("encoder", 1)})))
    with pytest.raises(ValueError, match="attention: no head is left in layer 2 of the encoder"):
        check_signals(model.config, Signals(attention=frozenset({("encoder", 2)})))
    shared = gone("albert")
    with pytest.raises(ValueError, match="no head is left in layer 2"):
        check_signals(shared.config, Signals(attention=frozenset({("encoder", 2)})))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_what_it_writes_with_a_cache_is_what_it_writes_without(name, tmp_path):
    model, prompt = tiny(name, head="language"), {"input_ids": torch.tensor([[7, 8, 9, 10]])}
    attentions = {units.name for units in branches(model) if branch_type(units) == "attention"}
    report = cut(empty(model, attentions))
    assert report.units["decoder.0.self"][1] == 1 and report.units["decoder.1.self"][1] == 0
    assert "counts the tokens" in report.skipped["decoder.0.self"]
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    written = model.generate(**prompt, use_cache=True, **options)
    assert torch.equal(written, model.generate(**prompt, use_cache=False, **options))
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(written, loaded.generate(**prompt, **options))


def test_what_cannot_be_cut_is_listed():
    model = tiny("t5")
    report = cut(empty(model, {units.name for units in branches(model)[1:]}))
    attention = {name: after for name, (_, after) in report.units.items() if home_of(name) == "attention"}
    assert attention == {name: 0 if name.endswith("cross") else 4 for name in attention} and len(attention) == 6
    assert report.skipped["decoder.1.self"].startswith("4 heads are zero but stay")


@pytest.mark.parametrize("name", ["bert", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_it_is_exported_without_what_is_gone(name, tmp_path):
    model, inputs = gone(name), batch(name)
    export_onnx(model, inputs, tmp_path / "fp32.onnx")
    quantize_onnx(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    for rows in (inputs, batch(name, size=5, length=11)):
        expected = model(**rows).logits.detach()
        torch.testing.assert_close(OnnxModel(tmp_path / "fp32.onnx")(rows), expected, atol=2e-5, rtol=1e-4)
        assert (OnnxModel(tmp_path / "int8.onnx")(rows) - expected).abs().max() < 0.1
    graph = onnx.load(tmp_path / "fp32.onnx").graph
    assert [tensor.name for tensor in graph.initializer if 0 in tensor.dims] == []
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    # Of BERT: its one feed-forward, pooler, classifier; of GPT-2: one head's projections and products too, no pooler.
    assert len(products) == {"bert": 4, "gpt2": 7}[name]


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_cut_model_can_be_pruned_and_quantized_again(name):
    model = tiny(name, layers=3)
    names = [units.name for units in branches(model)]
    cut(empty(model, {names[1], names[4]}))
    inputs = batch(name)
    for shape in ("elements", "neurons", "heads", "layers"):
        assert 0 < mask(model, 0.25, shape, "global").current_sparsity() <= 0.3
    quantize = Quantize()
    quantize.attach(model)
    quantize.update(0, TIMELINE)
    model(**inputs).loss.backward()
    quantize.quantize_full_embeddings()
    fold(model)
    quantize.remove_input_hooks()
    before = model(**inputs).logits
    report = cut(model)
    assert report.units[names[1]] == report.units[names[4]] == (0, 0)
    torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)
