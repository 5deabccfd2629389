"""Units that are zero are cut out: no output changes, and the smaller model is saved, cut again and trained."""

import pytest
import torch

from prune_schedules.schedule import Constant
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.structure.cut import cut, nonzero_units
from students.structure.places import select_modules
from students.structure.units import neurons
from students.weights import fold, out_axis
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.folded import Grid, pruned
from tests.helpers.pruning.models import learns, without


def test_heads_that_share_a_position_bias_stay_and_are_listed():
    model = pruned("t5", {"heads": 0.5})
    report = cut(model)
    assert set(report.skipped) == {"encoder.0.self", "encoder.1.self", "decoder.0.self", "decoder.1.self"}
    assert report.skipped["encoder.0.self"].startswith("2 heads are zero but stay")
    # Those of cross-attention have none: half of four matrices of 32 by 32 in two blocks.
    assert report.parameters[0] - report.parameters[1] == 2 * 4 * 32 * 16 and not report.is_stock


def test_key_value_groups_go_with_their_query_heads():
    model = pruned("llama", {"heads": 0.5})
    cut(model)
    attention = model.model.layers[0].self_attn
    assert attention.q_proj.weight.shape == (16, 32) and attention.o_proj.weight.shape == (32, 16)
    assert attention.k_proj.weight.shape == attention.v_proj.weight.shape == (8, 32)


def test_nothing_to_cut_changes_nothing():
    model = tiny("bert")
    report = cut(model)
    assert report.is_stock and report.parameters[0] == report.parameters[1]
    assert all(before == after for before, after in report.units.values())


def test_a_neuron_with_a_bias_is_alive():
    model = tiny("bert")
    units = neurons(model)[0]
    with torch.no_grad():
        for part in units.slices:
            getattr(part.module, part.name).zero_()
        model.bert.encoder.layer[0].intermediate.dense.bias[5] = 1.0
    assert nonzero_units(units).nonzero().flatten().tolist() == [5]


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
