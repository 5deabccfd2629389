"""The moving average of the student's weights as its teacher."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from distill.teachers.settings import TeacherSettings
from prune_schedules.schedule import Schedule, Timeline

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distill.teachers.averaged_student import AveragedStudent


@dataclass(kw_only=True)
class MovingAverage(TeacherSettings):
    """The moving average of the student as its own teacher (Tarvainen and Valpola 2017, arXiv 1703.01780).

    Args:
        decay: the fraction of the average that an optimizer step keeps, from 0 to 1.
    """

    is_teacher: ClassVar[bool] = True
    changes_with_student: ClassVar[bool] = True
    can_be_matched: ClassVar[bool] = True
    averages_weights: ClassVar[bool] = True

    decay: Schedule

    def check_schedules(self, timeline: Timeline) -> None:
        for step in self.decay.extremes(timeline):
            if not 0 <= self.decay.value(step, timeline) <= 1:
                value = self.decay.value(step, timeline)
                raise ValueError(f"decay: is {value} at step {step}; it must be between 0 and 1")

    def create_online(self, student: PreTrainedModel, head: type | None = None) -> AveragedStudent:
        from distill.teachers.averaged_student import AveragedStudent  # not above: it is a callback of Lightning

        return AveragedStudent(deepcopy(student), self.decay)
