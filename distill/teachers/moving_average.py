"""The moving average of the student's weights as its teacher."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prune_schedules.schedule import Schedule, Timeline

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distill.teachers.averaged_student import AveragedStudent


@dataclass(kw_only=True)
class MovingAverage:
    """The moving average of the student as its own teacher (Tarvainen and Valpola 2017, arXiv 1703.01780).

    Args:
        decay: the fraction of the average that an optimizer step keeps, from 0 to 1.
    """

    is_teacher: ClassVar[bool] = True
    changes_with_student: ClassVar[bool] = True
    can_be_matched: ClassVar[bool] = True
    averages_weights: ClassVar[bool] = True

    decay: Schedule

    def check(self, timeline: Timeline) -> None:
        """Check that the decay is between 0 and 1 at all steps.

        Raises:
            ValueError: if it is not.
        """
        for step in self.decay.extremes(timeline):
            if not 0 <= self.decay.value(step, timeline) <= 1:
                value = self.decay.value(step, timeline)
                raise ValueError(f"decay: is {value} at step {step}; it must be between 0 and 1")

    def create(self, student: PreTrainedModel) -> AveragedStudent:
        """Return the average before the first step: a copy of the new student."""
        from distill.teachers.averaged_student import AveragedStudent  # not above: it is a callback of Lightning

        return AveragedStudent(deepcopy(student), self.decay)
