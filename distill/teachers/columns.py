"""A teacher without a model: its outputs are columns of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distill.tasks.soft_labels import SoftLabels
from distill.teachers.recorded import RecordedOutputs

if TYPE_CHECKING:
    from distill.tasks.task import Task


@dataclass(kw_only=True)
class Columns(RecordedOutputs):
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

    def set_up_task(self, task: Task, cache: Path) -> None:
        if task.problem == "regression" and self.temperature != 1:
            raise ValueError("temperature: divides the logits of classes, and a regression has none")
        are_probabilities = self.values == "probabilities" and task.problem != "regression"
        task.soft_labels = SoftLabels(self.columns, are_probabilities, self.temperature)
