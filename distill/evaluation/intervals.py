"""Confidence intervals of metrics: a percentile bootstrap over validation rows (Efron 1979).

A metric is computed from states that add up over rows (counts, sums) or are lists of rows' values. The states of each
row are kept, and the metric is computed anew from those of rows drawn with replacement; so every metric has an
interval, F1 of entities and BLEU too. All models of a run are resampled with the same rows, so the difference of two
models has an interval as well.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities.data import dim_zero_cat, dim_zero_sum

from distill.tasks.metrics.search import SearchMetric
from distill.tasks.task import Task

RESAMPLES, LEVEL, SEED = 1000, 0.95, 0
MAX_UNITS = 2000
"""Of more rows, blocks of neighbours are drawn, which keeps the work to seconds."""


class UpdateRecorder:
    """Stands in for a metric and keeps the arguments of its update."""

    def __init__(self):
        self.arguments: tuple[Sequence, ...] = ()

    def update(self, *arguments: Sequence) -> None:
        """Keep the arguments, a value a row in each."""
        self.arguments = arguments


class RowStates:
    """The states of a task's metrics for each row.

    Args:
        task: gives the metrics.
    """

    def __init__(self, task: Task):
        self.task, self.count = task, 0
        self.metrics = MetricCollection(dict(task.metrics().items()), compute_groups=False)
        for metric in self.metrics.values():
            metric.distributed_available_fn = lambda: False  # only this process evaluates
            metric.validate_args = False  # the whole batch was checked
        self.sums: dict[tuple[str, str], list[Tensor]] = {}
        """By metric and state, those that add up: for each batch [B, ...]."""
        self.lists: dict[tuple[str, str], list[list[Tensor]]] = {}
        """By metric and state, lists of values: for each row the tensors, of which there may be none."""
        self.terms: dict[str, np.ndarray] = {}
        """By metric of a search, the weighted value and the weight of each row, [N, 2]."""

    def update(self, logits: Tensor, batch: dict[str, Tensor], generated: dict[str, UpdateRecorder]) -> None:
        """Add the rows of a batch: the selected logits [B, ...], and the arguments of metrics of generated texts."""
        states: dict[tuple[str, str], list] = {(name, state): [] for name, _, state in self._states()}
        for row in range(len(logits)):
            only = slice(row, row + 1)
            self.metrics.reset()
            self.task.update_metrics(self.metrics, logits[only], {name: value[only] for name, value in batch.items()})
            for name, recorder in generated.items():
                if recorder.arguments:
                    self.metrics[name].update(*(values[only] for values in recorder.arguments))
            for name, metric, state in self._states():
                value = getattr(metric, state)
                # A reset of the metric clears its lists.
                states[name, state].append(list(value) if isinstance(value, list) else value)
        self.count += len(logits)
        for key, values in states.items():
            if self._is_sum(key):
                self.sums.setdefault(key, []).append(torch.stack(values).detach().cpu())
            else:
                self.lists.setdefault(key, []).extend(values)

    def replicates(self, rows: Sequence[int] | None = None, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return metrics of each resample, [R] by name; NaN where one is not defined.

        Args:
            rows: which rows are drawn, by their number in the order of the updates; all by default.
            names: of the metrics; all by default.
        """
        rows = np.arange(self.count) if rows is None else np.asarray(rows)
        starts = np.arange(0, len(rows), max(1, math.ceil(len(rows) / MAX_UNITS)))
        draws = np.random.default_rng(SEED).integers(0, len(starts), (RESAMPLES, len(starts)))
        return self._compute(rows, starts, draws, names)

    def value(self, name: str, rows: Sequence[int]) -> float:
        """Return a metric of some rows."""
        one_block = np.zeros((1, 1), dtype=np.int64)
        return float(self._compute(np.asarray(rows), one_block[0], one_block, [name])[name][0])

    def _compute(
        self, rows: np.ndarray, starts: np.ndarray, draws: np.ndarray, names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Return metrics of drawn blocks, [R] by name.

        Args:
            rows: the rows of all blocks, one block after the other.
            starts: where each block begins in ``rows``, [U].
            draws: the blocks of each resample, [R, U].
            names: of the metrics; all if empty.
        """
        states = [entry for entry in self._states() if not names or entry[0] in names]
        states = [entry for entry in states if not isinstance(entry[1], SearchMetric)]
        weights = np.stack([np.bincount(draw, minlength=len(starts)) for draw in draws]).astype(np.float64)
        sums, lists = {}, {}
        for name, _, state in states:
            key = name, state
            if self._is_sum(key):
                matrix = torch.cat(self.sums[key]).reshape(self.count, -1).double().numpy()
                sums[key] = weights @ np.add.reduceat(matrix[rows], starts)
            else:
                lists[key] = RowLists.of(self.lists[key]).blocks(rows, starts)
        chosen = {name: metric for name, metric in self.metrics.items() if not names or name in names}
        metrics = {name: metric for name, metric in chosen.items() if not isinstance(metric, SearchMetric)}
        searches = {name: self._of_search(name, rows, starts, weights) for name in chosen.keys() - metrics.keys()}
        values: dict[str, list[float]] = {name: [] for name in metrics}
        for metric in metrics.values():
            metric._update_count = 1  # else compute warns that there is no data
        for number, draw in enumerate(draws):
            for metric in metrics.values():
                metric._computed = None  # all states are set below
            for name, metric, state in states:
                if (name, state) in sums:
                    default = metric._defaults[state]
                    total = torch.from_numpy(sums[name, state][number]).reshape(default.shape)
                    setattr(metric, state, total.to(default.dtype))
                else:
                    setattr(metric, state, lists[name, state].take(draw))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The variance of predictions or target")  # the metric is NaN then
                for name, metric in metrics.items():
                    values[name].append(float(metric.compute()))
        return searches | {name: np.array(column) for name, column in values.items()}

    def _of_search(self, name: str, rows: np.ndarray, starts: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the means of a metric whose values of rows stay when rows are drawn, [R]."""
        if name not in self.terms:
            metric = self.metrics[name]
            for state in metric._defaults:
                setattr(metric, state, [RowLists.of(self.lists[name, state]).values])
            value, weight = (part.double().cpu().numpy() for part in metric.row_terms())
            self.terms[name] = np.stack([value * weight, weight], 1)
        totals = weights @ np.add.reduceat(self.terms[name][rows], starts)
        with np.errstate(invalid="ignore"):  # of no query with a relevant passage the mean is not defined
            return totals[:, 0] / totals[:, 1]

    def _states(self) -> list[tuple[str, Metric, str]]:
        return [(name, metric, state) for name, metric in self.metrics.items() for state in metric._defaults]

    def _is_sum(self, key: tuple[str, str]) -> bool:
        reduction = self.metrics[key[0]]._reductions[key[1]]
        if reduction not in (dim_zero_sum, dim_zero_cat):
            raise TypeError(f"{key[0]}: its state {key[1]!r} is neither a sum over rows nor a list of their values")
        return reduction is dim_zero_sum


class RowLists:
    """The values of a state that is a list, by unit: a row, or a block of rows.

    Args:
        values: of all units, one after the other.
        lengths: the number of values of each unit.
    """

    def __init__(self, values: Tensor, lengths: np.ndarray):
        self.values, self.lengths = values, lengths
        self.starts = np.cumsum(lengths) - lengths

    @classmethod
    def of(cls, parts: list[list[Tensor]]) -> RowLists:
        """Return the values of rows from the tensors of each row, which may have none."""
        lengths = np.array([sum(map(len, part)) for part in parts])
        return cls(torch.cat([tensor for part in parts for tensor in part]), lengths)

    def blocks(self, rows: np.ndarray, starts: np.ndarray) -> RowLists:
        """Return the values of blocks of ``rows``, of which each begins at one of ``starts``."""
        return RowLists(self.take(rows)[0], np.add.reduceat(self.lengths[rows], starts))

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
