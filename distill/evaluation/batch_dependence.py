"""Batch dependence: whether the predictions for a text change when it is padded in a batch.

They do if activations are quantized with one range for all rows of a batch.
"""

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
    """The difference between predictions for single texts and for the same texts in a batch."""

    rows: int
    largest_difference: float
    """Largest absolute difference of logits."""
    changed: float
    """Share of the predictions that change; of numbers, by more than 1 % of their spread."""


@dataclass
class PaddingSample:
    """Some rows as one padded batch, and as batches of one row."""

    padded: dict[str, Tensor]
    single: list[dict[str, Tensor]]


def padding_samples(
    rows: Dataset, groups: list[list[int]], collate: Callable[[list[dict]], dict[str, Tensor]], size: int = 32
) -> list[PaddingSample]:
    """Return the first ``size`` rows of the first and of the middle batch in ``groups``."""
    samples = []
    for number in sorted({0, len(groups) // 2}):
        chosen = [rows[i] for i in groups[number][:size]]
        samples.append(PaddingSample(collate(chosen), [collate([row]) for row in chosen]))
    return samples


def batch_dependence(task: Task, predict: Predict, samples: list[PaddingSample]) -> BatchDependence:
    """Compare the predictions of a model for single rows and for padded batches."""
    largest, rows, padded_predictions, single_predictions = 0.0, 0, [], []
    for sample in samples:
        padded_logits = task.compute_logits(predict, sample.padded)
        padded_predictions.append(task.predictions(padded_logits, sample.padded))
        for row, batch in zip(padded_logits, sample.single, strict=True):
            logits = task.compute_logits(predict, batch)
            single_predictions.append(task.predictions(logits, batch))
            without_padding = row[tuple(slice(length) for length in logits.shape[1:])]
            largest = max(largest, float((without_padding - logits[0]).abs().max()))
        rows += len(sample.single)
    changed = 1 - agreement(torch.cat(padded_predictions), torch.cat(single_predictions))
    return BatchDependence(rows, largest, changed)
