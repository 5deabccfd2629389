"""What is left out of single steps: it has no part in them, the draws are those of seed and step, and runs resume."""

import copy

import pytest
import torch

from prune_schedules.callback import Prune
from prune_schedules.schedule import Constant, Cubic, Linear, Timeline, TimePoint
from prune_schedules.scores.gradient import Movement
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.targets.mask import Mask
from students.weights import find_weight_transforms
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.runs import resumable

TIMELINE = Timeline(total_steps=20, epoch_steps=10)
NONE, HALF = Constant(0.0), Constant(0.5)


def test_evaluation_leaves_nothing_out():
    model, pruner = tiny("bert").eval(), Magnitude(sparsity=NONE, shape="layers", dropout=HALF)
    expected = model(**batch("bert")).logits
    pruner.attach(model)
    pruner.before_forward(3, TIMELINE, {})
    assert torch.equal(model(**batch("bert")).logits, expected)


def test_as_much_is_dropped_as_the_schedule_says():
    pruner = Magnitude(sparsity=NONE, shape="layers", dropout=Linear(initial=0.5, to=0.0, stop=TimePoint("50%")))
    pruner.attach(tiny("bert"), seed=5)
    again, other = copy.deepcopy(pruner), copy.deepcopy(pruner)
    other.seed = 6
    timeline, gone = Timeline(total_steps=400, epoch_steps=400), []
    for step in range(400):
        pruner.before_forward(step, timeline, {})
        factors = [mask.gate for part in pruner.targets for mask in part.outgoing_masks.values()]
        gone.append(torch.tensor([factor is not None and not factor.any() for factor in factors]))
        assert all(
            torch.equal(*draws) for draws in zip(pruner.random_numbers(step), again.random_numbers(step), strict=True)
        )
        pruner.before_optimizer_step(step, timeline)
    first, second, third, last = (float(drawn.float().mean()) for drawn in torch.stack(gone).split(100))
    assert first == pytest.approx(0.375, abs=0.08) and second == pytest.approx(0.125, abs=0.06)
    assert third == last == 0
    assert [draw.tolist() for draw in pruner.random_numbers(0)] != [draw.tolist() for draw in other.random_numbers(0)]


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_is_the_run_bit_for_bit(tmp_path):
    """And heads that are dropped to the end stay masked to the end."""
    sparsity = Cubic(to=0.5, start=TimePoint("2 steps"), stop=TimePoint("8 steps"))

    def make() -> Prune:
        heads = Movement(sparsity=sparsity, every=TimePoint("3 steps"), shape="heads", dropout=Constant(0.3))
        return Prune({"heads": heads}, {"heads": 0})

    uninterrupted = resumable(tmp_path, make, (3, 9))
    masks = list(find_weight_transforms(uninterrupted, Mask).values())
    assert masks and not all(mask.mask.all() for mask in masks) and all(mask.gate is None for mask in masks)


def test_a_probability_is_below_one():
    Magnitude(sparsity=NONE, dropout=Linear(initial=0.0, to=0.9)).check(TIMELINE)
    with pytest.raises(ValueError, match="^dropout: is 1.0 at step 0; it must be a probability"):
        Magnitude(sparsity=NONE, dropout=Constant(1.0)).check(TIMELINE)
