"""Hidden dimensions that are masked: which go, by every score, and what is told of mistakes."""

import pytest
import torch
from torch import nn

from prune_schedules.callback import Prune
from prune_schedules.schedule import Constant, Cubic, Steps, Timeline, TimePoint
from prune_schedules.scores.gates import Fisher, Movement, Taylor
from prune_schedules.scores.l0 import L0
from prune_schedules.scores.magnitude import Magnitude, Random
from prune_schedules.scores.pruner import Pruner
from prune_schedules.scores.sparsegpt import SparseGPT
from prune_schedules.scores.wanda import Wanda
from prune_schedules.structure.cut import cut
from prune_schedules.targets.mask import Mask
from prune_schedules.targets.norms import kept
from prune_schedules.targets.units import UnitTarget
from students.structure.hidden import hidden_units
from students.weights import find_weight_transforms, fold, raw_parameter
from tests.helpers.families import FAMILIES, batch, tiny
from tests.helpers.pruning.models import without

TIMELINE = Timeline(total_steps=20, epoch_steps=10)


@pytest.mark.parametrize("head", ["classification", "language"])
@pytest.mark.parametrize("name", FAMILIES)
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
    assert torch.equal(kept(model), ~small)


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
    (found,) = torch.autograd.grad(model(**inputs).loss, gates)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("name, head", [(name, "classification") for name in FAMILIES] + [("gpt2", "language")])
def test_a_dimension_is_scored_by_the_gradient_of_a_gate_before_all_that_reads_it(name, head):
    """Of embeddings that are the head as well, a gate stands behind them, too."""
    taylor = Taylor(sparsity=Cubic(to=0.5, start=TimePoint("25%"), stop=TimePoint("75%")), shape="hidden")
    model, inputs = tiny(name, head=head), batch(name, head=head)
    taylor.attach(model)
    for masked in (False, True):
        taylor.seen = None
        model.zero_grad()
        taylor.before_forward(4, TIMELINE, {})
        model(**inputs).loss.backward()
        taylor.before_step(4, TIMELINE)
        expected = gate_gradients(model, taylor.parts[0].read, inputs, tied=head == "language")
        found = taylor.scores()[0]
        torch.testing.assert_close(found, expected.abs(), rtol=1e-3, atol=1e-6)
        gone = ~kept(model)
        assert int(gone.sum()) == 8 * masked and (found[~gone] > 0).all() and not found[gone].any()
        taylor.parts[0].keep(torch.arange(32) % 4 != 1)


@pytest.mark.parametrize("name, head", [(name, "classification") for name in FAMILIES] + [("gpt2", "language")])
def test_learned_gates_multiply_what_is_read_and_what_they_close_is_absent(name, head):
    """Against masks where a gate is 0, and gates on the inputs of all that reads; masks that stood are lifted."""
    model, inputs = tiny(name, head=head), batch(name, head=head)
    pruner, heeded = L0(sparsity=Steps(at={"25%": 0.5, "75%": 0.6}), shape="hidden"), []
    pruner.attach(model)
    pruner.update_scores = lambda gradients, step, timeline: heeded.extend(gradients)
    part = pruner.parts[0]
    part.keep(torch.arange(32) % 3 > 0)
    for mask in find_weight_transforms(model, Mask).values():
        mask.train()  # dropout would differ
    pruner.before_forward(8, TIMELINE, {})
    (gates,) = (gates.detach() for gates in pruner._drawn)
    assert (gates == 0).any() and ((gates > 0) & (gates < 1)).any()
    found = model(**inputs)
    found.loss.backward()
    weights = {name: p.grad.clone() for name, p in model.named_parameters()}
    pruner.before_step(8, TIMELINE)
    trained = {name: p.grad.clone() for name, p in model.named_parameters()}
    part.set_gates(None)
    part.keep(gates > 0)
    expected = gate_gradients(model, part.read, inputs, head == "language", gates)
    torch.testing.assert_close(heeded[0][gates > 0], expected[gates > 0], rtol=1e-3, atol=1e-6)
    assert not heeded[0][gates == 0].any()
    # What the optimizer sees are the gradients of weights that are multiplied.
    part.accumulate_gradients(False)
    part.set_gates(gates)
    model.zero_grad()
    plain = model(**inputs)
    plain.loss.backward()
    torch.testing.assert_close(plain.logits, found.logits)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trained[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(weights[name], trained[name]) for name in weights)


@pytest.mark.parametrize("kind", [Fisher, L0, Magnitude, Movement, Random, Taylor])
def test_any_score_and_a_penalty(kind):
    """The schedule goes up and back to nothing, and then the model is what it was."""
    model, inputs = tiny("bert"), batch("bert")
    before = model(**inputs).logits
    there_and_back = Steps(at={"0 steps": 0.0, "2 steps": 0.5, "3 steps": 0.0})
    pruner, masked = (
        kind(sparsity=there_and_back, shape="hidden", every=TimePoint("1 steps"), penalty=Constant(0.1)),
        [],
    )
    pruner.attach(model)
    size = sum(raw_parameter(module).numel() for module in pruner.weights.values())
    pruner.check(TIMELINE)
    for step in range(4):
        pruner.before_forward(step, TIMELINE, inputs)
        model(**inputs).loss.backward()
        pruner.before_step(step, TIMELINE)
        assert pruner.penalize(step, TIMELINE) > 0
        pruner.update(step + 1, TIMELINE)
        masked.append(pruner.sparsity_now())
        # A quarter is left of what leads from hidden to hidden.
        assert Prune({"a": pruner}).sparsity == pytest.approx(0.5 + 0.25 * 32**2 / size if masked[-1] else 0, abs=1e-6)
    assert masked == [0, 0.5, 0, 0] and torch.equal(model(**inputs).logits, before)


def test_the_penalty_has_the_gradient_of_the_group_lasso():
    """The numbers of a tied tensor count once."""
    model = tiny("gpt2", head="language")
    pruner = Magnitude(sparsity=Constant(0.0), shape="hidden", penalty=Constant(0.1))
    pruner.attach(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    value = pruner.penalize(0, TIMELINE)
    axes = {(32,): 0, (100, 32): 1, (66, 32): 1, (32, 96): 0, (32, 64): 0, (64, 32): 1, (32, 32): 1}
    twins = [(p, p.detach().double().requires_grad_()) for p in model.parameters()]
    groups = [p.movedim(axes[tuple(p.shape)], 0).reshape(32, -1) for _, p in twins if tuple(p.shape) in axes]
    together = torch.cat(groups, dim=1)
    expected = 0.1 * together.shape[1] ** 0.5 * together.norm(dim=1).sum()
    expected.backward()
    assert value == pytest.approx(float(expected.detach()), rel=1e-5)
    for p, twin in twins:
        torch.testing.assert_close(p.grad, torch.zeros_like(p) if twin.grad is None else twin.grad.float())


def test_two_pruners_leave_what_both_keep():
    model = tiny("bert")
    pruners = [kind(sparsity=Constant(0.25), shape="hidden") for kind in (Magnitude, Random)]
    for pruner in pruners:
        pruner.attach(model)
        pruner.update(0, TIMELINE)
    masks = [pruner.parts[0].made.kept() for pruner in pruners]
    assert torch.equal(kept(model), masks[0] & masks[1]) and 8 < int((~kept(model)).sum()) <= 16
    before = model(**batch("bert")).logits
    fold(model)
    cut(model)
    torch.testing.assert_close(model(**batch("bert")).logits, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "kind, fields, message",
    [
        (Magnitude, {"where": ["ffn"]}, "where: hidden dimensions run through the whole model; leave it out"),
        (Magnitude, {"scope": "layer"}, "scope: hidden dimensions are ranked over the whole model; it is global, not"),
        (Magnitude, {"scope": "row"}, "scope: row is for weights; hidden dimensions lie in no row"),
        (Wanda, {}, "shape: hidden dimensions are read by all layers"),
        (SparseGPT, {}, "shape: "),
    ],
)
def test_mistakes_name_their_field(kind, fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        kind(sparsity=Constant(0.5), shape="hidden", **fields)


def test_what_a_resolved_config_says_is_read_again():
    def again(pruner: Pruner) -> Pruner:
        return Magnitude(sparsity=pruner.sparsity, shape="hidden", where=pruner.where, scope=pruner.scope)

    assert (
        again(Magnitude(sparsity=Constant(0.5), shape="hidden")).where
        == again(again(Magnitude(sparsity=Constant(0.5), shape="hidden"))).where
        == ["attention", "ffn", "embeddings", "head", "recurrence"]
    )
