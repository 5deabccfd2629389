"""A teacher whose outputs are recorded with the rows before training: from columns of the data, or judged once."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from distill.tasks.columns import values_of
from distill.tasks.soft_labels import KEY, LOG_ZERO
from distill.teachers.settings import TeacherSettings
from losses.loss import is_regression, prediction_mask
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from datasets import Dataset

    from distill.tasks.task import Task
    from distill.teachers.settings import LoopTeacher
    from students.recording.batch import Batch


class RecordedOutputs(TeacherSettings):
    """Base of the settings of teachers whose outputs are recorded; no model runs in the training loop."""

    is_teacher: ClassVar[bool] = True
    has_recorded_outputs: ClassVar[bool] = True

    def build_teacher(self, teachers: dict[str, LoopTeacher], task: Task) -> RecordedTeacher:
        return RecordedTeacher()

    def recorded_batches(self, batches: list[Batch]) -> list[Batch]:
        """Return the batches' rows whose outputs are recorded."""
        recorded = []
        for batch in batches:
            if KEY in batch and (has_outputs := ~batch[KEY].isnan().any(-1)).any():
                is_whole = has_outputs.all()
                recorded.append(batch if is_whole else {name: values[has_outputs] for name, values in batch.items()})
        return recorded


class RecordedTeacher:
    """Reads the teacher's logits from a batch; it has no weights."""

    def to(self, device: torch.device) -> None:
        """Do nothing: the batch is on the device already."""

    def trace(self, batch: Batch, signals: Signals) -> Trace:
        """Return the logits of a batch, float32 [B, C].

        A row without outputs has those of its label y: ``z_c = 0`` for c = y and ``LOG_ZERO`` for other classes, so
        that softmax(z / T) is one-hot at any temperature T and forward KL is ``-T² log softmax(z_S / T)_y``; in a
        regression ``z = y``.

        Raises:
            ValueError: if hidden states or attention are requested.
        """
        if replace(signals, logits=False):
            raise ValueError("teacher: outputs alone are recorded, and a loss needs hidden states or attention")
        labels = batch["labels"][prediction_mask(batch)]
        return Trace(fill_missing(batch[KEY], labels, is_regression(batch)), {}, {}, {})


def recorded_values(task: Task, rows: Dataset, column: str) -> Tensor:
    """Return a column of encoded rows, [N, …]; where a row has several passages, those of one after the other."""
    values: list[Any] = list(values_of(rows, column))
    return torch.tensor([*chain.from_iterable(values)] if task.groups_passages else values)


def fill_missing(logits: Tensor, labels: Tensor, are_numbers: bool = False) -> Tensor:
    """Return logits [B, C] in which rows of NaN are those of their labels [B]."""
    if are_numbers:
        of_labels = labels[:, None].to(logits.dtype)
    else:
        classes = torch.arange(logits.shape[-1], device=logits.device)
        of_labels = torch.where(classes == labels[:, None], 0.0, LOG_ZERO).to(logits.dtype)
    return torch.where(logits.isnan(), of_labels, logits)


def has_zeros(logits: Tensor, temperature: float) -> Tensor:
    """Return for each row of logits [B, C] whether a probability is 0, or the row has none and its label stands in."""
    return (logits.isnan() | (logits <= temperature * LOG_ZERO)).any(-1)
