"""A teacher without a model: its outputs are columns of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from distill.tasks.soft_labels import KEY, LOG_ZERO, SoftLabels
from distill.teachers.settings import TeacherSettings
from losses.loss import is_regression
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from distill.tasks.task import Task
    from distill.teachers.settings import LoopTeacher
    from students.recording.batch import Batch


@dataclass(kw_only=True)
class Columns(TeacherSettings):
    """Soft labels as the teacher: its outputs are columns of the data, from a language model, an ensemble or votes.

    No model is loaded. Where all cells of a row are empty, its label is the target: probability 1 for its class, or
    its number. Files of validation and test may lack the columns; where they have them, the teacher is evaluated.

    Args:
        columns: the columns in the order of the labels' numbers, or {label: column}; for a regression the only one.
        values: whether cells are ``probabilities``, which must sum to 1 within 1e-3, or ``logits``; for a regression
            they are numbers like the labels.
        temperature: T, by which the logits were divided: cells are ``p = softmax(z / T)``, and the logits that losses
            see ``T log p``; or cells are ``z / T``, and losses see z.
        check: refuse columns that are no better than the most frequent class, before the first step.
    """

    is_teacher: ClassVar[bool] = True
    reads_columns: ClassVar[bool] = True

    columns: list[str] | dict[str, str]
    values: Literal["probabilities", "logits"] = "probabilities"
    temperature: float = 1.0
    check: bool = True

    def __post_init__(self):
        names = list(self.columns.values() if isinstance(self.columns, dict) else self.columns)
        if not names:
            raise ValueError("columns: name one column for each class, or for a regression one")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"columns: {twice!r} is named twice")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: must be above 0, not {self.temperature}")

    def set_up_task(self, task: Task) -> None:
        if task.problem == "regression" and self.temperature != 1:
            raise ValueError("temperature: divides the logits of classes, and a regression has none")
        are_probabilities = self.values == "probabilities" and task.problem != "regression"
        task.soft_labels = SoftLabels(self.columns, are_probabilities, self.temperature)

    def build_teacher(self, teachers: dict[str, LoopTeacher], task: Task) -> ColumnTeacher:
        return ColumnTeacher()

    def recorded_batches(self, batches: list[Batch]) -> list[Batch]:
        """Return the batches' rows whose cells are not empty."""
        recorded = []
        for batch in batches:
            if KEY in batch and (has_cells := ~batch[KEY].isnan().any(-1)).any():
                recorded.append({name: values[has_cells] for name, values in batch.items()})
        return recorded


class ColumnTeacher:
    """Reads the teacher's logits from a batch; it has no weights."""

    def to(self, device: torch.device) -> None:
        """Do nothing: the batch is on the device already."""

    def trace(self, batch: Batch, signals: Signals) -> Trace:
        """Return the logits of a batch, float32 [B, C].

        A row without cells has those of its label y: ``z_c = 0`` for c = y and ``LOG_ZERO`` for other classes, so that
        softmax(z / T) is one-hot at any temperature T and forward KL is ``-T² log softmax(z_S / T)_y``; in a
        regression ``z = y``.

        Raises:
            ValueError: if hidden states or attention are requested.
        """
        if signals.hidden or signals.attention:
            raise ValueError("columns: hold outputs alone, and a loss needs hidden states or attention")
        return Trace(fill_missing(batch[KEY], batch["labels"], is_regression(batch)), {}, {}, {})


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
