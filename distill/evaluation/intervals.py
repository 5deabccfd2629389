"""Confidence intervals of metrics: a percentile bootstrap over validation rows (Efron 1979).

A metric is computed from states that add up over rows (counts, sums) or are lists of rows' values. The states of each
row are kept, and the metric is computed anew from those of rows drawn with replacement; so every metric has an
interval, F1 of entities and BLEU too. All models of a run are resampled with the same rows, so the difference of two
models has an interval as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities.data import dim_zero_cat, dim_zero_sum

from distill.tasks.task import Task

RESAMPLES, LEVEL, SEED = 1000, 0.95, 0
MAX_UNITS = 2000
"""With more rows, blocks of neighbours are drawn, which keeps the work to seconds."""


class UpdateRecorder:
    """Stands in for a metric and keeps the arguments of its update."""

    def __init__(self):
        self.arguments: tuple[Sequence, ...] = ()

    def update(self, *arguments: Sequence) -> None:
        """Keep the arguments, a value a row in each."""
        self.arguments = arguments


class RowStates:
    """The states of a task's metrics for each unit: a row, or a block of rows in a batch.

    Args:
        task: gives the metrics.
        rows: the number of rows of validation.
    """

    def __init__(self, task: Task, rows: int):
        self.task, self.size = task, max(1, math.ceil(rows / MAX_UNITS))
        self.metrics = MetricCollection(dict(task.metrics().items()), compute_groups=False)
        for metric in self.metrics.values():
            metric.distributed_available_fn = lambda: False  # only this process evaluates
        self.units: list[dict[tuple[str, str], Tensor | list[Tensor]]] = []

    def update(self, logits: Tensor, batch: dict[str, Tensor], generated: dict[str, UpdateRecorder]) -> None:
        """Add the rows of a batch: the selected logits [B, ...], and the arguments of metrics of generated texts."""
        for start in range(0, len(logits), self.size):
            rows = slice(start, start + self.size)
            self.metrics.reset()
            self.task.update_metrics(self.metrics, logits[rows], {name: value[rows] for name, value in batch.items()})
            for name, recorder in generated.items():
                if recorder.arguments:
                    self.metrics[name].update(*(values[rows] for values in recorder.arguments))
            states = {(name, state): getattr(metric, state) for name, metric, state in self._states()}
            # A reset of the metric clears its lists.
            self.units.append({key: list(value) if isinstance(value, list) else value for key, value in states.items()})

    def replicates(self) -> dict[str, np.ndarray]:
        """Return the metrics of each resample, [R] by name; NaN where one is not defined."""
        count = len(self.units)
        draws = np.random.default_rng(SEED).integers(0, count, (RESAMPLES, count))
        weights = np.stack([np.bincount(draw, minlength=count) for draw in draws]).astype(np.float64)
        sums = {key: weights @ self._matrix(key) for key in self.units[0] if self._is_sum(key)}
        lists = {key: RowLists([unit[key] for unit in self.units]) for key in self.units[0] if not self._is_sum(key)}
        values: dict[str, list[float]] = {name: [] for name in self.metrics}
        for number, draw in enumerate(draws):
            self.metrics.reset()
            for metric in self.metrics.values():
                metric._update_count = 1  # else compute warns that there is no data
            for name, metric, state in self._states():
                if (name, state) in sums:
                    default = metric._defaults[state]
                    total = torch.from_numpy(sums[name, state][number]).reshape(default.shape)
                    setattr(metric, state, total.to(default.dtype))
                else:
                    setattr(metric, state, lists[name, state].take(draw))
            for name, metric in self.metrics.items():
                values[name].append(float(metric.compute()))
        return {name: np.array(column) for name, column in values.items()}

    def _states(self) -> list[tuple[str, Metric, str]]:
        return [(name, metric, state) for name, metric in self.metrics.items() for state in metric._defaults]

    def _is_sum(self, key: tuple[str, str]) -> bool:
        reduction = self.metrics[key[0]]._reductions[key[1]]
        if reduction not in (dim_zero_sum, dim_zero_cat):
            raise TypeError(f"{key[0]}: its state {key[1]!r} is neither a sum over rows nor a list of their values")
        return reduction is dim_zero_sum

    def _matrix(self, key: tuple[str, str]) -> np.ndarray:
        return torch.stack([unit[key].detach().cpu().double().flatten() for unit in self.units]).numpy()


class RowLists:
    """The values of a state that is a list, by unit.

    Args:
        parts: the tensors of each unit, which may have none.
    """

    def __init__(self, parts: list[list[Tensor]]):
        self.lengths = np.array([sum(map(len, part)) for part in parts])
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.values = torch.cat([tensor for part in parts for tensor in part])

    def take(self, units: np.ndarray) -> list[Tensor]:
        """Return the values of some units, in their order, as the state."""
        lengths = self.lengths[units]
        before = np.cumsum(lengths) - lengths
        indices = np.repeat(self.starts[units] - before, lengths) + np.arange(lengths.sum())
        return [self.values[torch.from_numpy(indices)]]


def percentile_interval(values: np.ndarray) -> list[float]:
    """Return the 95 % interval of resampled values [R]; those that are not defined are left out."""
    if np.isnan(values).all():
        return [math.nan, math.nan]
    tail = (1 - LEVEL) / 2
    return [float(edge) for edge in np.nanquantile(values, [tail, 1 - tail])]


def intervals(replicates: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Return the interval of each metric, [low, high] by name."""
    return {name: percentile_interval(values) for name, values in replicates.items()}


def difference_intervals(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Return the interval of left minus right by metric, paired: each resample has the same rows for both models."""
    return intervals({name: values - right[name] for name, values in left.items() if name in right})
