"""Everything of a step that is a pure function of it: the learning rate, and what is scheduled in each loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from distill.experiment.optimizer import Optimizer
from losses.loss import Loss, LossValues
from prune_schedules.schedule import Timeline


@dataclass(frozen=True)
class StepValues:
    """The values of one optimizer step; they do not change.

    Args:
        lr: the learning rate.
        losses: of each loss by name.
    """

    lr: float
    losses: Mapping[str, LossValues]


def step_values(
    step: int, timeline: Timeline, optimizer: Optimizer, losses: Mapping[str, Loss], without_teacher: bool = False
) -> StepValues:
    """Return the values of a step.

    Args:
        step: of the optimizer.
        timeline: of the run.
        optimizer: whose learning rate it is.
        losses: by name.
        without_teacher: whether losses that look at the teacher no longer count.
    """
    values = {name: loss.at(step, timeline) for name, loss in losses.items()}
    if without_teacher:
        values = {
            name: each.with_zero_weight() if losses[name].teacher_signals else each for name, each in values.items()
        }
    return StepValues(optimizer.rate(step, timeline), MappingProxyType(values))
