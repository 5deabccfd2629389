"""Whether a model says the same of a text alone and of the same text padded in a batch: rounding inputs by one range
for all of a batch makes it say something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from datasets import Dataset
from torch import Tensor

from distill.evaluation.measure import agreement
from distill.tasks.task import Predict, Task


@dataclass
class BatchDependence:
    """How far answers to texts alone and in a batch are apart."""

    rows: int
    largest_difference: float
    """Of the logits."""
    changed: float
    """Share of the predictions; of numbers, those that move by more than 1 % of their spread."""


@dataclass
class Sample:
    """Some rows together, padded to one length, and each of them alone."""

    together: dict[str, Tensor]
    alone: list[dict[str, Tensor]]


def samples(
    rows: Dataset, groups: list[list[int]], collate: Callable[[list[dict]], dict[str, Tensor]], size: int = 32
) -> list[Sample]:
    """The first rows of the first and the middle batch of those that are measured, at most ``size`` of each."""
    found = []
    for at in sorted({0, len(groups) // 2}):
        chosen = [rows[i] for i in groups[at][:size]]
        found.append(Sample(collate(chosen), [collate([row]) for row in chosen]))
    return found


def batch_dependence(task: Task, predict: Predict, samples: list[Sample]) -> BatchDependence:
    """Asks a model about rows alone and together."""
    largest, rows, said = 0.0, 0, ([], [])
    for sample in samples:
        together = task.select_logits(predict(sample.together), sample.together)
        said[0].append(task.predictions(together, sample.together))
        for row, batch in zip(together, sample.alone, strict=True):
            alone = task.select_logits(predict(batch), batch)
            said[1].append(task.predictions(alone, batch))
            # What is beyond the text is padding.
            same = row[tuple(slice(length) for length in alone.shape[1:])]
            largest = max(largest, float((same - alone[0]).abs().max()))
        rows += len(sample.alone)
    changed = 1 - agreement(torch.cat(said[0]), torch.cat(said[1]))
    return BatchDependence(rows, largest, changed)
