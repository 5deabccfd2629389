"""One step of training with a pruner, for scores that are gradients."""

from torch import nn

from prune_schedules.schedule import Cubic, Timeline, TimePoint
from prune_schedules.scores.pruner import Pruner
from tests.helpers.families import batch, tiny

TIMELINE = Timeline(total_steps=20, epoch_steps=10)
LATER = Cubic(to=0.5, start=TimePoint("25%"), stop=TimePoint("75%"))


def one_step(name: str, pruner: Pruner, step: int) -> nn.Module:
    """Return the model after the backward pass of a step."""
    model = tiny(name).eval()
    pruner.attach(model)
    pruner.before_forward(step, TIMELINE, {})
    model(**batch(name)).loss.backward()
    pruner.before_optimizer_step(step, TIMELINE)
    return model
