"""Ranks of layers in two factors are units: masked, cut while the student trains or at the end, with any score."""

import copy

import pytest
import torch

from prune_schedules.schedule import Constant, Steps, Timeline
from prune_schedules.scores.gradient import Taylor
from prune_schedules.scores.l0 import L0
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.scores.wanda import Wanda
from prune_schedules.structure.shrink import cut_final
from quant_aware.quantize import Quantize
from students.structure.factored import rank_components, rank_of
from students.weights import full_parameter, raw_parameter
from tests.helpers.families import batch
from tests.helpers.students.low_rank import student

TIMELINE = Timeline(total_steps=10, epoch_steps=10)


def test_the_smallest_components_go():
    """Of an SVD whose factors share the singular values, these are the last."""
    model = student("bert", where=["attention", "ffn"])
    pruner = Magnitude(sparsity=Constant(0.5), shape="ranks")
    pruner.attach(model)
    pruner.update(0, TIMELINE)
    assert len(pruner.targets) == 12 and pruner.skipped == {}
    for part in pruner.targets:
        kept_ranks = part.kept_units()
        assert (
            kept_ranks.sum() == part.initial_count - round(0.5 * part.initial_count)
            and kept_ranks[: kept_ranks.sum()].all()
        )


def test_a_component_is_a_row_and_a_column():
    model = student("gpt2", where=["ffn"])
    layer = model.transformer.h[0].mlp.c_fc
    (units,) = [units for units in rank_components(model) if units.name == "transformer.h.0.mlp.c_fc"]
    scores = Magnitude(sparsity=0.5, shape="ranks", where=["ffn"])
    scores.attach(model)
    actual = dict(zip([part.units.name for part in scores.targets], scores.scores(), strict=True))[units.name]
    both = torch.cat(
        [layer.input_factor.weight, layer.weight.T if layer.weight.shape[0] != units.count else layer.weight], 1
    )
    torch.testing.assert_close(actual, both.square().mean(1).sqrt())


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_they_leave_the_tensors_while_the_student_trains(name, quantize):
    same = student(name)
    losses, sizes, other = [], [], copy.deepcopy(same)
    for model in (same, other):
        pruners = {
            shape: Magnitude(sparsity=Steps(at={"2 steps": 0.5}), shape=shape, scope="global")
            for shape in ("ranks", "neurons")
        }
        for pruner in pruners.values():
            pruner.attach(model)
        if quantize:
            whole = Quantize()
            whole.attach(model)
            whole.update(0, TIMELINE)
        optimizer, sparsities = torch.optim.AdamW(model.parameters(), lr=1e-3), []
        for number in range(1, 5):
            optimizer.zero_grad()
            loss = model(**batch(name, seed=number)).loss
            loss.backward()
            optimizer.step()
            for pruner in pruners.values():
                pruner.update(number, TIMELINE)
            if model is same:
                cut_final(model, pruners, {"ranks", "neurons"}, number, TIMELINE, [optimizer])
            sparsities.append(float(loss.detach()))
        losses.append(sparsities)
        sizes.append(model.num_parameters())
    assert losses[0] == pytest.approx(losses[1], abs=5e-3 if quantize else 1e-5)
    assert sizes[0] < 0.8 * sizes[1]


@pytest.mark.parametrize("pruner", [Taylor, L0, Wanda])
def test_gradients_and_inputs_score_them(pruner):
    """The gate of a component stands before the columns that send it on: sum over w dL/dw of these."""
    model = student("bert", where=["attention", "ffn"]).train()
    scored = pruner(sparsity=Steps(at={"2 steps": 0.5}), shape="ranks")
    scored.attach(model)
    for step in range(2):
        scored.before_forward(step, TIMELINE, batch("bert"))
        model.zero_grad()
        model(**batch("bert")).loss.backward()
        gradients = {
            part.reader: (full_parameter(part.reader) * raw_parameter(part.reader).grad).sum(0).detach()
            for part in scored.targets
        }
        scored.before_optimizer_step(step, TIMELINE)
        scored.update(step + 1, TIMELINE)
    if pruner is Taylor:
        assert scored.score_sums is None
    assert scored.current_sparsity() == pytest.approx(0.5, abs=0.05)
    assert all(rank_of(module) for module in gradients)
