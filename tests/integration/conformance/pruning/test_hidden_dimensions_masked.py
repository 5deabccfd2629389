"""Hidden dimensions are scored, masked and gated in every family."""

import pytest
import torch
from torch import nn

from prune_schedules.schedule import Cubic, Steps, Timeline, TimePoint
from prune_schedules.scores.gradient import Taylor
from prune_schedules.scores.l0 import L0
from prune_schedules.targets.mask import Mask
from prune_schedules.targets.norms import kept_dimensions
from prune_schedules.targets.units import UnitTarget
from students.structure.hidden import hidden_units
from students.weights import find_weight_transforms, raw_parameter
from tests.helpers.families import FAMILIES, batch, tiny
from tests.helpers.pruning.models import without

TIMELINE = Timeline(total_steps=20, epoch_steps=10)


@pytest.mark.parametrize("head", ["classification", "language"])
def test_the_smallest_go(name, head):
    model, small = tiny(name, head=head), torch.arange(32) % 4 == 2
    with torch.no_grad():
        for parameter in {
            id(raw_parameter(part.module, part.name)): raw_parameter(part.module, part.name)
            for units in hidden_units(model)
            for part in units.slices
        }.values():
            axis = list(parameter.shape).index(32)
            parameter.mul_(torch.where(small, 0.1, 1.0).view([32 if i == axis else 1 for i in range(parameter.ndim)]))
    without(model, {"hidden": 0.25})
    assert torch.equal(kept_dimensions(model), ~small)


def gate_gradients(
    model: nn.Module, read: UnitTarget, inputs: dict[str, torch.Tensor], tied: bool, gates: torch.Tensor | None = None
) -> torch.Tensor:
    """Of gates on the inputs of all that reads, and behind embeddings that are the head as well."""
    gates = (torch.ones(32) if gates is None else gates.clone()).requires_grad_()
    readers = [part.module for part in read.units.slices if not isinstance(part.module, nn.Embedding)]
    hooks = [reader.register_forward_pre_hook(lambda module, given: (given[0] * gates,)) for reader in readers]
    if tied:
        table = model.get_input_embeddings()
        hooks.append(table.register_forward_hook(lambda module, given, output: output * gates))
    (gradients,) = torch.autograd.grad(model(**inputs).loss, gates)
    for hook in hooks:
        hook.remove()
    return gradients


@pytest.mark.parametrize("name, head", [(name, "classification") for name in FAMILIES] + [("gpt2", "language")])
def test_a_dimension_is_scored_by_the_gradient_of_a_gate_before_all_that_reads_it(name, head):
    """Of embeddings that are the head as well, a gate stands behind them, too."""
    taylor = Taylor(sparsity=Cubic(to=0.5, start=TimePoint("25%"), stop=TimePoint("75%")), shape="hidden")
    model, inputs = tiny(name, head=head), batch(name, head=head)
    taylor.attach(model)
    for masked in (False, True):
        taylor.score_sums = None
        model.zero_grad()
        taylor.before_forward(4, TIMELINE, {})
        model(**inputs).loss.backward()
        taylor.before_optimizer_step(4, TIMELINE)
        expected = gate_gradients(model, taylor.targets[0].readers, inputs, tied=head == "language")
        scores = taylor.scores()[0]
        torch.testing.assert_close(scores, expected.abs(), rtol=1e-3, atol=1e-6)
        gone = ~kept_dimensions(model)
        assert int(gone.sum()) == 8 * masked and (scores[~gone] > 0).all() and not scores[gone].any()
        taylor.targets[0].keep(torch.arange(32) % 4 != 1)


@pytest.mark.parametrize("name, head", [(name, "classification") for name in FAMILIES] + [("gpt2", "language")])
def test_learned_gates_multiply_what_is_read_and_what_they_close_is_absent(name, head):
    """Against masks where a gate is 0, and gates on the inputs of all that reads; masks that stood are lifted."""
    model, inputs = tiny(name, head=head), batch(name, head=head)
    pruner, heeded = L0(sparsity=Steps(at={"25%": 0.5, "75%": 0.6}), shape="hidden"), []
    pruner.attach(model)
    pruner.update_scores = lambda gradients, step, timeline: heeded.extend(gradients)
    part = pruner.targets[0]
    part.keep(torch.arange(32) % 3 > 0)
    for mask in find_weight_transforms(model, Mask).values():
        mask.train()  # dropout would differ
    pruner.before_forward(8, TIMELINE, {})
    (gates,) = (gates.detach() for gates in pruner._gates)
    assert (gates == 0).any() and ((gates > 0) & (gates < 1)).any()
    gated = model(**inputs)
    gated.loss.backward()
    weights = {name: p.grad.clone() for name, p in model.named_parameters()}
    pruner.before_optimizer_step(8, TIMELINE)
    trained = {name: p.grad.clone() for name, p in model.named_parameters()}
    part.set_gates(None)
    part.keep(gates > 0)
    expected = gate_gradients(model, part.readers, inputs, head == "language", gates)
    torch.testing.assert_close(heeded[0][gates > 0], expected[gates > 0], rtol=1e-3, atol=1e-6)
    assert not heeded[0][gates == 0].any()
    # What the optimizer sees are the gradients of weights that are multiplied.
    part.accumulate_gradients(False)
    part.set_gates(gates)
    model.zero_grad()
    plain = model(**inputs)
    plain.loss.backward()
    torch.testing.assert_close(plain.logits, gated.logits)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trained[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(weights[name], trained[name]) for name in weights)
