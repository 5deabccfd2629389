"""Several judges as one teacher."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config.schema import check_identifiers
from distill.teachers.judges.endpoint import Endpoint
from distill.teachers.judges.judge import TaskJudge, check_task
from distill.teachers.judges.prompted_model import PromptedModel
from distill.teachers.recorded import RecordedOutputs

if TYPE_CHECKING:
    from distill.tasks.task import Task


@dataclass(kw_only=True)
class Judges(RecordedOutputs):
    """Several judges: their probabilities are averaged.

    Args:
        judges: prompted models and endpoints by name, of the same labels.
        weights: of each in the mean; by default equal.
        check: refuse a teacher that is no better on validation data than the most frequent class, before the first
            step.
    """

    judges: dict[str, PromptedModel | Endpoint]
    weights: dict[str, float] = field(default_factory=dict)
    check: bool = True

    def __post_init__(self) -> None:
        check_identifiers("judges", self.judges)
        if len(self.judges) < 2:
            raise ValueError("judges: name two or more; a single one is the teacher itself")
        labels = {name: sorted(judge.labels) for name, judge in self.judges.items()}
        first = next(iter(labels))
        if other := next((name for name in labels if labels[name] != labels[first]), None):
            raise ValueError(f"judges: {first} and {other} have different labels")
        if self.weights and sorted(self.weights) != sorted(self.judges):
            raise ValueError(f"weights: write one for each of {', '.join(self.judges)}")
        if any(weight <= 0 for weight in self.weights.values()):
            raise ValueError("weights: must be above 0")

    def set_up_task(self, task: Task, cache: Path) -> None:
        check_task(task)
        weights = self.weights or dict.fromkeys(self.judges, 1.0)
        total = sum(weights.values())
        shares = {name: weight / total for name, weight in weights.items()}
        task.judge = TaskJudge(next(iter(self.judges.values())).labels, self.judges, shares, cache)
