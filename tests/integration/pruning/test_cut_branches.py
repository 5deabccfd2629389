"""Attentions and feed-forwards that are gone as a whole: the model computes, saves, loads, trains and exports."""

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from prune_schedules.schedule import Timeline
from prune_schedules.structure.cut import alive, cut
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.quantize import Quantize
from students.families.families import family
from students.recording.signals import Signals, check_signals
from students.recording.trace import Recorder
from students.structure.resized import block_sizes
from students.structure.units import branch_type, branches, heads, neurons
from students.weights import fold
from tests.helpers.families import FAMILIES, Head, batch, everything, tiny
from tests.helpers.pruning.models import mask

TIMELINE = Timeline(total_steps=10, epoch_steps=10)


def empty(model: nn.Module, names: set[str]) -> nn.Module:
    """The model, with zeros in all that belongs to these branches."""
    with torch.no_grad():
        for units in branches(model):
            for part in units.slices if units.name in names else []:
                getattr(part.module, part.name).zero_()
    return model


def gone(name: str, keep: int = 1, head: Head = "classification") -> nn.Module:
    """A tiny model, cut, of whose branches only the first ``keep`` feed-forwards are left."""
    model = tiny(name, head=head)
    cut(empty(model, {units.name for units in branches(model)[keep:]}))
    return model


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=6, database=None)
@given(st.data())
def test_whatever_is_zero_leaves_and_no_output_changes(name, data):
    model, inputs = tiny(name), batch(name)
    names = [units.name for units in branches(model)]
    zero = set(data.draw(st.lists(st.sampled_from(names), unique=True, max_size=len(names) - 1)))
    units = data.draw(st.sampled_from(neurons(model)))
    some = torch.tensor(data.draw(st.lists(st.booleans(), min_size=units.count, max_size=units.count)))
    empty(model, zero)
    with torch.no_grad():
        for part in units.slices:
            entries = getattr(part.module, part.name).movedim(part.axis, 0)
            entries[part.start : part.start + units.count * part.size][some.repeat_interleave(part.size)] = 0
    before, size = model(**inputs).logits, model.num_parameters()
    report = cut(model)
    torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)
    left = {units.name: units.count for units in neurons(model) + heads(model)}
    assert left == {name: after for name, (_, after) in report.units.items()}
    assert report.parameters == (size, model.num_parameters())
    stay = {name for name in zero if home_of(name) == "attention" and family(model.config).relative_position_bias}
    assert {name for name in zero if left[name]} <= stay | {"decoder.0.self"}
    assert all(bool(alive(units).all()) for units in neurons(model))


def home_of(name: str) -> str:
    return "ffn" if name.endswith(".ffn") else "attention"


@pytest.mark.parametrize("name", FAMILIES)
def test_saved_and_loaded_it_is_the_same_model(name, tmp_path):
    model, inputs = gone(name), batch(name)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert block_sizes(loaded) == block_sizes(model)
    assert name == "albert" or any(
        block["intermediate"] == 0 for stack in block_sizes(loaded).values() for block in stack
    )
    assert getattr(AutoConfig.from_pretrained(tmp_path), "block_sizes", None) == getattr(
        model.config, "block_sizes", None
    )
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    assert [(key, p.shape) for key, p in loaded.named_parameters()] == [
        (key, p.shape) for key, p in model.named_parameters()
    ]


def test_feed_forwards_that_are_all_gone_are_no_stock_model(tmp_path):
    """A stock GPT-2 without neurons can be made and cannot run."""
    model = tiny("gpt2")
    report = cut(empty(model, {"decoder.0.ffn", "decoder.1.ffn"}))
    assert not report.stock and [block["intermediate"] for block in model.config.block_sizes["decoder"]] == [0, 0]
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


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_that_is_left_gets_a_gradient(name):
    """DDP waits for all of them."""
    model = gone(name).train()
    model(**batch(name)).loss.backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    torch.optim.AdamW(model.parameters(), lr=1e-2).step()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert torch.isfinite(model(**batch(name)).logits).all()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_an_empty_block_of_a_pre_norm_model_is_the_identity(name):
    trace = traced(gone(name, keep=1), name)
    assert torch.equal(trace.hidden["decoder", 2], trace.hidden["decoder", 1])
    assert not torch.equal(trace.hidden["decoder", 1], trace.hidden["decoder", 0])


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_traced(name):
    model = gone(name)
    assert torch.equal(traced(model, name).logits, model(**batch(name)).logits)


def traced(model: nn.Module, name: str):
    asked = everything(model.config)
    left = {(units.name.split(".")[0], int(units.name.split(".")[1]) + 1) for units in heads(model) if units.count}
    with torch.no_grad():
        return Recorder(model).trace(batch(name), Signals(True, asked.hidden, asked.attention & left))


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


@pytest.mark.parametrize("name", ["bert", "gpt2"])
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
        assert 0 < mask(model, 0.25, shape, "global").sparsity_now() <= 0.3
    quantize = Quantize()
    quantize.attach(model)
    quantize.update(0, TIMELINE)
    model(**inputs).loss.backward()
    quantize.settle()
    fold(model)
    quantize.detach_inputs()
    before = model(**inputs).logits
    report = cut(model)
    assert report.units[names[1]] == report.units[names[4]] == (0, 0)
    torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)
