"""The student's own past as its teacher: the moving average of its weights."""

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
        decay: the share of the average that stays at an optimizer step, from 0 to 1.
    """

    is_teacher: ClassVar[bool] = True
    changes_with_student: ClassVar[bool] = True
    may_match_student: ClassVar[bool] = True
    averages_weights: ClassVar[bool] = True

    decay: Schedule

    def check(self, timeline: Timeline) -> None:
        """Raises ValueError if the decay is no share at some step."""
        for step in self.decay.extremes(timeline):
            if not 0 <= self.decay.value(step, timeline) <= 1:
                value = self.decay.value(step, timeline)
                raise ValueError(f"decay: is {value} at step {step}; it is a share, from 0 to 1")

    def begin(self, student: PreTrainedModel) -> AveragedStudent:
        """The average before the first step: a copy of the student as it was built."""
        from distill.teachers.averaged_student import AveragedStudent  # not above: it is a callback of Lightning

        return AveragedStudent(deepcopy(student), self.decay)
