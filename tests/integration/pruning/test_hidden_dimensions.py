"""Hidden dimensions that are masked: which go, by every score, and what is told of mistakes."""

import pytest
import torch

from prune_schedules.callback import Prune
from prune_schedules.schedule import Constant, Steps, Timeline, TimePoint
from prune_schedules.scores.gradient import Fisher, Movement, Taylor
from prune_schedules.scores.l0 import L0
from prune_schedules.scores.magnitude import Magnitude, Random
from prune_schedules.scores.pruner import Pruner
from prune_schedules.scores.sparsegpt import SparseGPT
from prune_schedules.scores.wanda import Wanda
from prune_schedules.structure.cut import cut
from prune_schedules.targets.norms import kept_dimensions
from students.weights import fold, raw_parameter
from tests.helpers.families import batch, tiny

TIMELINE = Timeline(total_steps=20, epoch_steps=10)


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
        pruner.before_optimizer_step(step, TIMELINE)
        assert pruner.add_penalty_gradients(step, TIMELINE) > 0
        pruner.update(step + 1, TIMELINE)
        masked.append(pruner.current_sparsity())
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
    value = pruner.add_penalty_gradients(0, TIMELINE)
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
    masks = [pruner.targets[0].writers.kept_units() for pruner in pruners]
    assert torch.equal(kept_dimensions(model), masks[0] & masks[1]) and 8 < int((~kept_dimensions(model)).sum()) <= 16
    before = model(**batch("bert")).logits
    fold(model)
    cut(model)
    torch.testing.assert_close(model(**batch("bert")).logits, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "kind, fields, message",
    [
        (Magnitude, {"where": ["ffn"]}, "where: hidden dimensions run through the whole model; leave it out"),
        (Magnitude, {"scope": "layer"}, "scope: hidden dimensions are ranked over the whole model; it is global, not"),
        (Magnitude, {"scope": "row"}, "scope: row is for elements and tiles, not for hidden dimensions"),
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
