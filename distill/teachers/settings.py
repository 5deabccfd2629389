"""The settings of a teacher: the models that it loads, and how the teacher of the training loop is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from distill.tasks.task import Task
    from prune_schedules.schedule import Timeline
    from students.recording.batch import Batch
    from students.recording.own_tokens import OwnTokens
    from students.recording.signals import Signals, Trace


TEACHER_CACHE = ".teacher-cache"
"""The folder, beside the runs, of what teachers have said."""


class LoopTeacher(Protocol):
    """A teacher of the training loop."""

    def to(self, device: torch.device) -> None:
        """Move the weights to a device."""

    def trace(self, batch: dict[str, Tensor], signals: Signals) -> Trace:
        """Return the signals of a batch."""


class TeacherSettings:
    """Base of the values of ``teacher``; a subclass overrides what differs from a run without trained teachers."""

    is_ensemble: ClassVar[bool] = False
    """Whether it has several trained teachers."""
    is_ensemble_for_all_tasks: ClassVar[bool] = False
    """Whether all of several teachers read all rows."""
    has_teacher_per_task: ClassVar[bool] = False
    """Whether each of several tasks has its own teacher."""
    has_recorded_outputs: ClassVar[bool] = False
    """Whether its outputs are recorded with the rows before training, and no model runs in the loop."""
    drop_when_matched: ClassVar[bool] = False
    """Whether training goes on without the teacher once the student matches it."""

    def trained_teachers(self) -> dict[str, TeacherSettings]:
        """Return the trained teachers by name; a single one is called ``teacher``."""
        return {}

    def check_schedules(self, timeline: Timeline) -> None:
        """Check the values of the schedules at all steps.

        Raises:
            ValueError: if one is not possible, with the name of its field first.
        """

    def set_up_task(self, task: Task, cache: Path) -> None:
        """Let the rows of a task hold what the teacher reads, before they are read.

        Args:
            task: of the run.
            cache: the folder of what teachers have said.

        Raises:
            ValueError: if the teacher does not suit the task.
        """

    def create_online(self, student: PreTrainedModel, head: type | None = None) -> LoopTeacher | None:
        """Return the teacher that changes with the student, before the first step; None if it is a trained one.

        Args:
            student: as it was built.
            head: the Auto class of transformers that loads such a model; not given, a classifier of texts.
        """
        return None

    def build_teacher(self, teachers: dict[str, LoopTeacher], task: Task) -> LoopTeacher | None:
        """Return the teacher of the training loop, made of the trained ones; None if there are none."""
        return teachers.get("teacher")

    def recorded_batches(self, batches: list[Batch]) -> list[Batch]:
        """Return the rows of batches that hold the teacher's outputs; none if a model computes them."""
        return []

    def evaluation_models(
        self, models: dict[str, PreTrainedModel], task: Task, own_tokens: dict[str, OwnTokens]
    ) -> dict[str, nn.Module]:
        """Return the models to evaluate, by their names in the report.

        Args:
            models: the trained teachers by name.
            task: of the run.
            own_tokens: the inputs of those that read tokens of their own.
        """
        return dict(models)
