"""Hidden dimensions that are masked, then cut: the outputs stay, and the narrower model is saved and loaded."""

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from prune_schedules.schedule import Timeline
from prune_schedules.structure.cut import cut
from prune_schedules.targets.norms import kept_dimensions
from quant_aware.export.onnx import export_onnx
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.quantize import Quantize
from students.structure.hidden import hidden_units
from students.weights import fold, raw_parameter
from tests.helpers.families import Head, batch, tiny
from tests.helpers.pruning.models import learns, without

TIMELINE = Timeline(total_steps=20, epoch_steps=10)


def pruned(name: str, share: float = 0.25, head: Head = "classification", **others: float) -> PreTrainedModel:
    """A tiny model that has lost this share of its hidden dimensions, and of other shapes; masked."""
    return without(tiny(name, head=head), {"hidden": share, **others})


def test_heads_that_fill_the_width_that_is_left_make_a_stock_model(tmp_path):
    model, inputs = pruned("bert", 0.25, heads=0.25, neurons=0.5), batch("bert")
    masked = model(**inputs).logits
    fold(model)
    assert cut(model).is_stock and (model.config.num_attention_heads, model.config.intermediate_size) == (3, 32)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.model_type == "bert"
    torch.testing.assert_close(loaded(**inputs).logits, masked, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_what_was_cut_can_be_pruned_and_cut_again(name, tmp_path):
    model, inputs = pruned(name, 0.3), batch(name)
    fold(model)
    cut(model)
    without(model, {"hidden": 0.5, "neurons": 0.5})
    masked = model(**inputs).logits
    fold(model)
    assert cut(model).units["hidden"] == (22, 11)
    torch.testing.assert_close(model(**inputs).logits, masked, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits) and loaded.config.hidden_size == 11
    assert name == "t5" or loaded.config.original_widths == {"hidden_size": 32}


@pytest.mark.parametrize("embedding, share", [(32, 0.25), (24, 0.25)])
def test_electra_with_embeddings_of_its_width_and_one_cut_to_theirs(embedding, share, tmp_path):
    """It has no projection where the two are equal; where they become so, it stays."""
    config = copy.deepcopy(tiny("electra").config)
    config.embedding_size = embedding
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    without(model, {"hidden": share})
    inputs = batch("electra")
    masked = model(**inputs).logits
    fold(model)
    cut(model)
    assert (model.config.hidden_size, model.config.embedding_size) == (24, 24)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**inputs).logits, masked, rtol=0, atol=1e-5)
    assert hasattr(loaded.electra, "embeddings_project") == (embedding == 24)


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
def test_tied_weights_stay_tied(name):
    model = pruned(name, head="language")
    fold(model)
    cut(model)
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert table.weight is head.weight and table.embedding_dim == head.in_features == 24
    model(**batch(name, head="language")).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_eight_bits_find_the_same_scales_before_and_after(name):
    model, inputs = pruned(name), batch(name)
    quantize = Quantize()
    quantize.attach(model)
    quantize.update(0, TIMELINE)
    masked = model(**inputs).logits
    quantize.quantize_full_embeddings()
    fold(model)
    cut(model)
    torch.testing.assert_close(model(**inputs).logits, masked, rtol=0, atol=1e-5)


@pytest.mark.slow  # the run of test_hidden_gone.py exports such a model
def test_it_is_exported(tmp_path):
    model, inputs = pruned("bert"), batch("bert")
    fold(model)
    cut(model)
    export_onnx(model, inputs, tmp_path / "x.onnx")
    for rows in (inputs, batch("bert", size=5, length=11)):
        expected = model(**rows).logits.detach()
        torch.testing.assert_close(OnnxModel(tmp_path / "x.onnx")(rows), expected, atol=2e-5, rtol=1e-4)


def test_one_dimension_stays():
    model = pruned("bert", 1.0)
    assert int(kept_dimensions(model).sum()) == 1
    fold(model)
    assert cut(model).units["hidden"] == (32, 1) and torch.isfinite(model(**batch("bert")).logits).all()


def test_a_model_whose_norms_count_everything_keeps_its_width():
    """All the zeros of a dimension do not take it out of the mean of a norm."""
    model, gone = tiny("bert"), torch.arange(32) < 4
    with torch.no_grad():
        for units in hidden_units(model):
            for part in units.slices:
                raw_parameter(part.module, part.name).movedim(part.axis, 0)[gone] = 0
    before = model(**batch("bert")).logits
    assert "hidden" not in cut(model).units and torch.equal(model(**batch("bert")).logits, before)


@pytest.mark.parametrize("name", ["bert", "gpt2", "albert", "t5"])
def test_the_cut_model_trains_on(name):
    model = pruned(name)
    fold(model)
    cut(model)
    assert learns(model, batch(name))
