"""The scheduled values of an optimizer step: the learning rate, and the weight and temperature of each loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from distill.experiment.optimizer import Optimizer
from losses.loss import Loss, LossValues
from prune_schedules.schedule import Timeline


@dataclass(frozen=True)
class StepValues:
    """The immutable scheduled values of one optimizer step.

    Args:
        lr: the learning rate.
        losses: the values of each loss by name.
    """

    lr: float
    losses: Mapping[str, LossValues]


def step_values(
    step: int, timeline: Timeline, optimizer: Optimizer, losses: Mapping[str, Loss], without_teacher: bool = False
) -> StepValues:
    """Return the scheduled values of an optimizer step.

    Args:
        step: the optimizer step, counted from 0.
        timeline: the length of the run.
        optimizer: gives the learning rate.
        losses: the losses by name.
        without_teacher: whether losses that need the teacher have weight 0.
    """
    values = {name: loss.at(step, timeline) for name, loss in losses.items()}
    if without_teacher:
        values = {
            name: value.with_zero_weight() if losses[name].teacher_signals else value for name, value in values.items()
        }
    return StepValues(optimizer.rate(step, timeline), MappingProxyType(values))
