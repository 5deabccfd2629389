"""Units that are zero are cut out: no output changes, and the smaller model is saved, cut again and trained."""

from typing import ClassVar

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from prune_schedules.ranking import Scope
from prune_schedules.schedule import Constant
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.structure.cut import alive, cut
from students.structure.units import heads, neurons
from students.weights import add_weight_transform, fold, out_axis, select_modules
from tests.helpers.families import FAMILIES, batch, tiny
from tests.helpers.pruning.models import learns, without


class Grid(nn.Module):
    """Rounds each row to 127 steps of its largest entry, as int8 weights are."""

    order: ClassVar[int] = 1

    def __init__(self, axis: int):
        super().__init__()
        self.axis = axis

    def forward(self, weight):
        scale = weight.abs().amax(dim=1 - self.axis, keepdim=True).clamp(min=1e-8) / 127
        return weight + ((weight / scale).round() * scale - weight).detach()


def pruned(name: str, shares: dict[str, float], scope: Scope | None = None, grid: bool = False) -> nn.Module:
    """A tiny model that has lost these shares of its elements, neurons or heads, folded."""
    model = without(tiny(name), shares, scope)
    if grid:
        for module in select_modules(model, ["attention", "ffn"])[0].values():
            add_weight_transform(module, Grid(out_axis(module)))
    fold(model)
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_cutting_changes_no_output(name):
    model, inputs = pruned(name, {"elements": 0.3, "neurons": 0.5, "heads": 0.5}, scope="global"), batch(name)
    before, size = model(**inputs).logits, model.num_parameters()
    report = cut(model)
    torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)
    assert report.parameters == (size, model.num_parameters()) and model.num_parameters() < 0.85 * size
    assert not report.stock
    left = {units.name: units.count for units in neurons(model) + heads(model)}
    assert left == {name: count for name, (_, count) in report.units.items()}
    cut_neurons = [pair for name, pair in report.units.items() if name.endswith(".ffn")]
    assert sum(after for _, after in cut_neurons) == 0.5 * sum(before for before, _ in cut_neurons)


@pytest.mark.parametrize("name", FAMILIES)
def test_equal_neurons_and_all_heads_stay_a_stock_model(name, tmp_path):
    model, inputs = pruned(name, {"neurons": 0.25}), batch(name)
    stock, before = type(model), model(**inputs).logits
    assert cut(model).stock and type(model) is stock
    torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is stock and {units.count for units in neurons(loaded)} == {48}
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, rtol=0, atol=1e-6)


def test_heads_that_share_a_position_bias_stay_and_are_listed():
    model = pruned("t5", {"heads": 0.5})
    report = cut(model)
    assert set(report.skipped) == {"encoder.0.self", "encoder.1.self", "decoder.0.self", "decoder.1.self"}
    assert report.skipped["encoder.0.self"].startswith("2 heads are zero but stay")
    # Those of cross-attention have none: half of four matrices of 32 by 32 in two blocks.
    assert report.parameters[0] - report.parameters[1] == 2 * 4 * 32 * 16 and not report.stock


def test_key_value_groups_go_with_their_query_heads():
    model = pruned("llama", {"heads": 0.5})
    cut(model)
    attention = model.model.layers[0].self_attn
    assert attention.q_proj.weight.shape == (16, 32) and attention.o_proj.weight.shape == (32, 16)
    assert attention.k_proj.weight.shape == attention.v_proj.weight.shape == (8, 32)


def test_nothing_to_cut_changes_nothing():
    model = tiny("bert")
    report = cut(model)
    assert report.stock and report.parameters[0] == report.parameters[1]
    assert all(before == after for before, after in report.units.values())


def test_a_neuron_with_a_bias_is_alive():
    model = tiny("bert")
    units = neurons(model)[0]
    with torch.no_grad():
        for part in units.slices:
            getattr(part.module, part.name).zero_()
        model.bert.encoder.layer[0].intermediate.dense.bias[5] = 1.0
    assert alive(units).nonzero().flatten().tolist() == [5]


def test_a_model_with_steps_is_refused():
    model = tiny("bert")
    Magnitude(sparsity=Constant(0.5)).attach(model)
    with pytest.raises(ValueError, match="fold it before"):
        cut(model)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_weights_on_a_grid_are_still_on_it_after_cutting(name):
    model = pruned(name, {"neurons": 0.5, "heads": 0.5}, grid=True)
    cut(model)
    for module in select_modules(model, ["attention", "ffn"])[0].values():
        again = Grid(out_axis(module))(module.weight)
        torch.testing.assert_close(again, module.weight, rtol=1e-5, atol=1e-7)


def test_the_cut_model_can_be_cut_again():
    model = pruned("bert", {"heads": 0.5})
    cut(model)
    fold(without(model, {"heads": 0.5}))
    before = model(**batch("bert")).logits
    assert cut(model).units["encoder.0.self"] == (2, 1)
    assert [block["heads"] for block in model.config.block_sizes["encoder"]] == [1, 1]
    torch.testing.assert_close(model(**batch("bert")).logits, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "gpt2", "albert"])
def test_the_cut_model_trains_on(name):
    model = pruned(name, {"neurons": 0.5, "heads": 0.5}, scope="global")
    cut(model)
    assert learns(model, batch(name))
