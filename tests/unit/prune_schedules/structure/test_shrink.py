"""Units leave the tensors while the student trains: it goes on as with masks, and so does a resumed run."""

import pytest
import torch
from torch.nn.utils import parametrize

from prune_schedules.callback import Prune
from prune_schedules.schedule import Steps
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.structure.shrink import cut_final
from prune_schedules.targets.mask import Mask
from quant_aware.quantizers.fake_quant import FakeQuant
from students.structure.units import heads, neurons
from students.weights import (
    add_weight_transform,
    find_weight_transforms,
    get_weight_transforms,
    parameter_names,
    raw_parameter,
    remove_weight_transform,
)
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.learner import TIMELINE, Learner, pair
from tests.helpers.pruning.shapes import SHAPES


@pytest.mark.parametrize("quantize", [False, True])
def test_what_is_computed_stays_when_units_leave(quantize):
    masked, cut = pair("bert", {"elements": 0.3, "neurons": 0.5, "heads": 0.5}, quantize=quantize)
    for number in range(1, 4):
        masked.step(number), cut.step(number)
    masked_logits, cut_logits = (side.model(**batch("bert")).logits for side in (masked, cut))
    torch.testing.assert_close(masked_logits, cut_logits, rtol=0, atol=1e-5)
    left, before = (
        [step.enabled for step in find_weight_transforms(side.model, FakeQuant).values()] for side in (cut, masked)
    )
    assert left == before and any(left) == quantize


def test_the_optimizer_keeps_its_state_of_what_is_left():
    masked, cut = pair("gpt2", {"neurons": 0.5, "heads": 0.5})
    for side in (masked, cut):
        raw_parameter(side.model.transformer.h[0].mlp.c_proj).requires_grad_(False)
        for number in range(1, 4):
            side.step(number)
    old, new = masked.optimizer, cut.optimizer
    assert len(new.state) == len(old.state) == len(list(masked.model.parameters())) - 1
    kept = {part.units.name: part.kept_units() for pruner in masked.pruners.values() for part in pruner.targets}
    full_counts, left = (neurons(side.model) + heads(side.model) for side in (masked, cut))
    for before, after in zip(full_counts, left, strict=True):
        entries = before.kept_entries(kept[before.name])
        assert after.count == int(kept[before.name].sum())
        places = after.kept_entries(torch.ones(after.count))
        for ((module, key), (axis, stay)), other in zip(entries.items(), places, strict=True):
            first, second = raw_parameter(module, key), raw_parameter(*other)
            assert torch.equal(first[stay] if axis == 0 else first[:, stay], second)
            assert first.requires_grad == second.requires_grad
            if first.requires_grad:
                assert new.state[second]["step"] == 3
                for estimate in ("exp_avg", "exp_avg_sq"):
                    was = old.state[first][estimate]
                    assert torch.equal(was[stay] if axis == 0 else was[:, stay], new.state[second][estimate])


def test_names_stay_by_which_parameters_are_frozen():
    _, cut = pair("bert", {"neurons": 0.5})
    before = sorted(name for names in parameter_names(cut.model).values() for name in names)
    for number in range(1, 4):
        cut.step(number)
    assert sorted(name for names in parameter_names(cut.model).values() for name in names) == before
    assert not any(parametrize.is_parametrized(module) for module in cut.model.modules())


def test_units_wait_for_every_pruner_on_their_tensors():
    """Elements are ranked with what lies beneath the masks of neurons; attention has no part in that."""
    late = {"sparsity": Steps(at={"6 steps": 0.5})}
    pruners = {
        "neurons": Magnitude(sparsity=Steps(at={"3 steps": 0.5}), shape="neurons"),
        "heads": Magnitude(sparsity=Steps(at={"4 steps": 0.5}), shape="heads"),
        "elements": Magnitude(**late, where=["ffn"]),
    }
    model, seen = tiny("bert"), []
    for pruner in pruners.values():
        pruner.attach(model)
    prune = Prune(pruners)
    for number in range(1, 8):
        for pruner in pruners.values():
            pruner.update(number, TIMELINE)
        before, shares = prune.sparsity, [pruner.current_sparsity() for pruner in pruners.values()]
        cut_final(model, pruners, SHAPES, number, TIMELINE, [])
        assert prune.sparsity == before
        assert [pruner.current_sparsity() for pruner in pruners.values()][:2] == shares[:2]
        seen.append((neurons(model)[0].count, heads(model)[0].count))
    assert seen == [(64, 4)] * 3 + [(64, 2)] * 2 + [(32, 2)] * 2
    assert all(len(get_weight_transforms(layer)) == 1 for layer in pruners["elements"].weights.values())


def test_two_pruners_of_the_same_neurons_are_cut_together():
    pruners = {
        "first": Magnitude(sparsity=Steps(at={"2 steps": 0.25}), shape="neurons"),
        "second": Magnitude(sparsity=Steps(at={"4 steps": 0.5}), shape="neurons"),
    }
    model, seen = tiny("bert"), []
    for pruner in pruners.values():
        pruner.attach(model)
    for number in range(1, 6):
        for pruner in pruners.values():
            pruner.update(number, TIMELINE)
        cut_final(model, pruners, SHAPES, number, TIMELINE, [])
        seen.append(neurons(model)[0].count)
    assert seen == [64, 64, 64, 32, 32] and not find_weight_transforms(model, Mask)


@pytest.mark.parametrize("name, shapes, left", [("bert", {"neurons"}, 2), ("t5", SHAPES, 2)])
def test_heads_stay_where_they_have_to(name, shapes, left):
    learner = Learner(name, {"neurons": 0.5, "heads": 0.5}, cuts=False)
    for pruner in learner.pruners.values():
        pruner.update(3, TIMELINE)
    cut_final(learner.model, learner.pruners, shapes, 3, TIMELINE, [])
    free = {units.name for units in heads(learner.model) if name == "t5" and units.name.endswith(".cross")}
    assert all(units.count == (2 if units.name in free else 4) for units in heads(learner.model))
    assert sum(units.count for units in neurons(learner.model)) < 64 * len(neurons(learner.model))
    assert len(find_weight_transforms(learner.model, Mask)) > 0


def test_a_step_is_taken_from_between_others():
    layer, first, last = torch.nn.Linear(3, 2), Mask((2, 3)), FakeQuant()
    for step in (first, Mask((2, 1)), last):
        add_weight_transform(layer, step)
    middle, parameter = get_weight_transforms(layer)[1], raw_parameter(layer)
    remove_weight_transform(layer, middle)
    assert get_weight_transforms(layer) == [first, last]
    remove_weight_transform(layer, first)
    remove_weight_transform(layer, last)
    assert layer.weight is parameter and not parametrize.is_parametrized(layer)
