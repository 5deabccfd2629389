"""Pruning by gradients: the sums against gradients of real gates, and through a run that is interrupted."""

import pytest
import torch
from torch import nn

from prune_schedules.callback import Prune
from prune_schedules.schedule import Constant, Cubic, Steps, TimePoint
from prune_schedules.scores.gradient import Fisher, Movement, Taylor, gate_gradient
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.targets.elements import ElementTarget
from prune_schedules.targets.mask import Mask
from students.weights import find_weight_transforms, raw_parameter
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.one_step import LATER, TIMELINE, one_step
from tests.helpers.pruning.runs import resumable


def test_the_gradient_of_a_gate():
    torch.manual_seed(0)
    weight, gate = torch.randn(4, 6, dtype=torch.float64), torch.ones(4, 6, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(5, 6, dtype=torch.float64)
    loss = (inputs @ (gate * weight).T).tanh().sum()
    (expected,) = torch.autograd.grad(loss, gate)
    weight.requires_grad_()
    (gradient,) = torch.autograd.grad((inputs @ weight.T).tanh().sum(), weight)
    assert torch.allclose(gate_gradient([weight.unsqueeze(-1)], [gradient.unsqueeze(-1)]), expected)


@pytest.mark.parametrize("kind, of", [(Taylor, torch.abs), (Fisher, lambda x: x * x / 2)])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_the_sums_over_steps(name, kind, of):
    pruner = kind(sparsity=LATER, every=TimePoint("2 steps"))
    model = one_step(name, pruner, 3)
    layer = next(iter(pruner.weights.values()))
    first = raw_parameter(layer).detach() * raw_parameter(layer).grad
    pruner.before_forward(4, TIMELINE, {})
    model(**batch(name)).loss.backward()  # on top of the first: the gradient is now another
    pruner.before_optimizer_step(4, TIMELINE)
    second = raw_parameter(layer).detach() * raw_parameter(layer).grad
    expected = of(first) + of(second)
    scores = pruner.scores()[0]
    torch.testing.assert_close(scores, expected.T if name == "gpt2" else expected)
    pruner.update(7, TIMELINE)
    assert pruner.state_dict() == {}, "the next masks look at the model as it is then"


def test_movement_is_a_score_that_adam_learns():
    """torch's own, without momentum; 300 steps are enough for squares to fade."""
    pruner, draw = Movement(sparsity=LATER), torch.Generator().manual_seed(0)
    pruner.score_sums = pruner.square_sums = None
    score = nn.Parameter(torch.zeros(4, 6))
    adam = torch.optim.Adam([score], lr=1.0, betas=(0.0, 0.999), eps=0.0)
    for step in range(300):
        gradient = torch.randn(4, 6, generator=draw) * 10.0 ** (-step / 60)
        score.grad = gradient.clone()
        adam.step()
        pruner.update_scores([gradient], step, TIMELINE)
    assert score.abs().min() > 0.01
    torch.testing.assert_close(pruner.scores()[0], score.detach(), rtol=1e-3, atol=1e-4)


def test_weights_without_a_gradient_do_not_move():
    pruner = Movement(sparsity=LATER)
    pruner.score_sums = pruner.square_sums = None
    for step in range(2):
        pruner.update_scores([torch.tensor([0.0, 1e-12, 1e-30])], step, TIMELINE)
    still, moved, lost = pruner.scores()[0].tolist()
    assert (still, moved) == (0.0, -2.0) and abs(lost) < 1e-9, "the square of the last is no number"


def test_tiles_are_scored_by_one_gate_each():
    scores = []
    for shape in ("elements", [4, 2]):
        pruner = Movement(sparsity=LATER, shape=shape)
        pruner.update_scores = lambda gradients, *_: scores.append(gradients)
        one_step("gpt2", pruner, 3)
    for single, tile in zip(*scores, strict=True):
        summed = single.unflatten(0, (-1, 4)).unflatten(2, (-1, 2)).sum(dim=(1, 3))
        torch.testing.assert_close(tile, summed)


def test_what_is_masked_is_looked_at_and_not_trained():
    pruner = Movement(sparsity=Steps(at={"10%": 0.5, "90%": 0.6}))
    model = one_step("bert", pruner, 1)
    pruner.update(2, TIMELINE)
    before = [score.clone() for score in pruner.scores()]
    model.zero_grad()
    pruner.before_forward(2, TIMELINE, {})
    model(**batch("bert")).loss.backward()
    pruner.before_optimizer_step(2, TIMELINE)
    for part, old, new in zip(pruner.targets, before, pruner.scores(), strict=True):
        module, mask = part.module, part.mask
        assert not mask.mask.all()
        assert (raw_parameter(module).grad[~mask.mask] == 0).all()
        assert (new != old)[~mask.mask].float().mean() > 0.5


def test_outside_its_window_gradients_are_those_of_a_plain_mask():
    pruner = Taylor(sparsity=Steps(at={"25%": 0.5}), every=TimePoint("2 steps"))
    model = one_step("bert", pruner, 4)
    pruner.update(5, TIMELINE)
    for step, straight in [(2, False), (3, True), (4, True), (5, False)]:
        pruner.before_forward(step, TIMELINE, {})
        assert all(mask.straight_through == straight for mask in find_weight_transforms(model, Mask).values())
        pruner.before_optimizer_step(step, TIMELINE)
        assert not any(mask.straight_through or mask.suspended for mask in find_weight_transforms(model, Mask).values())


@pytest.mark.parametrize("kind", [Movement, Taylor, Fisher])
def test_nothing_goes_before_gradients_were_seen(kind):
    with pytest.raises(ValueError, match="^sparsity: is 0.5 at step 0, before there are gradients"):
        kind(sparsity=Constant(0.5)).check(TIMELINE)
    kind(sparsity=Cubic(to=0.5)).check(TIMELINE)


@pytest.mark.parametrize("kind", [Movement, Taylor, Fisher])
def test_a_step_that_overflowed_is_not_looked_at(kind):
    """As the scaler of ``16-mixed`` leaves such a step out; where all were, weights are ranked by their size."""
    pruner = kind(sparsity=LATER, shape="neurons", every=TimePoint("2 steps"))
    model = one_step("bert", pruner, 3)
    before = [score.clone() for score in pruner.scores()]
    pruner.before_forward(4, TIMELINE, {})
    model(**batch("bert")).loss.backward()
    raw_parameter(pruner.targets[-1].reader).grad[0, 0] = torch.inf
    pruner.before_optimizer_step(4, TIMELINE)
    assert all(map(torch.equal, pruner.scores(), before))
    pruner.score_sums, sizes = None, pruner.targets[0].outgoing_entries(raw_parameter)[0].square().mean(dim=1).sqrt()
    torch.testing.assert_close(pruner.scores()[0], sizes)
    pruner.update(7, TIMELINE)
    assert 0 < pruner.current_sparsity() < 0.5


def test_sums_that_were_loaded_follow_the_model():
    """Lightning loads them before it moves the model, here to meta, where there are no numbers."""
    pruner, again = Movement(sparsity=LATER, shape="heads"), Movement(sparsity=LATER, shape="heads")
    one_step("bert", pruner, 3)
    again.attach(tiny("bert"))
    again.load_state_dict(pruner.state_dict())
    again.update_scores([score.to("meta") for score in pruner.scores()], 4, TIMELINE)
    assert {score.device.type for score in again.scores()} == {"meta"}


def test_movement_finds_the_weights_that_grow():
    """Targets need the first inputs, and the weights of the others start large: magnitude keeps the wrong ones."""
    torch.manual_seed(0)
    inputs = torch.randn(64, 8)
    targets = inputs[:, :4] @ torch.ones(4, 1)
    nonzero = {}
    for kind in (Magnitude, Movement):
        layer, pruner = nn.Linear(8, 1, bias=False), kind(sparsity=Steps(at={"50%": 0.5}))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[0.1] * 4 + [2.0] * 4]))
        pruner.targets, pruner.score_sums, pruner.square_sums = [ElementTarget(layer)], None, None
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.02)
        for step in range(10):
            optimizer.zero_grad()
            pruner.before_forward(step, TIMELINE, {})
            (layer(inputs) - targets).square().mean().backward()
            pruner.before_optimizer_step(step, TIMELINE)
            optimizer.step()
        pruner.update(10, TIMELINE)
        nonzero[kind] = (layer.weight != 0).flatten().tolist()
    assert nonzero[Movement] == [True] * 4 + [False] * 4 == [not k for k in nonzero[Magnitude]]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", ["elements", "neurons", [4, 4]])
def test_a_resumed_run_is_the_run_bit_for_bit(tmp_path, shape):
    window = {"start": TimePoint("4 steps"), "stop": TimePoint("10 steps")}

    def make() -> Prune:
        return Prune(
            {
                kind.__name__: kind(sparsity=Cubic(to=0.4, **window), every=TimePoint("3 steps"), shape=shape)
                for kind in (Fisher, Movement, Taylor)
            }
        )

    uninterrupted = resumable(tmp_path, make, (2, 6, 7))
    masks = list(find_weight_transforms(uninterrupted, Mask).values())
    assert masks and not any(mask.mask.all() for mask in masks)
