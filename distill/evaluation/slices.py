"""Quality on slices of the validation rows: by length, and by each column that the task does not read."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from datasets import ClassLabel, Dataset, Value

from distill.evaluation.intervals import percentile_interval
from distill.evaluation.measure import EvalResult
from distill.tasks.columns import values_of
from distill.tasks.data_task import DataTask
from distill.tasks.task import Task

MIN_ROWS = 20
"""The number of rows below which a slice is left out."""
MAX_VALUES = 12
"""The number of different values up to which a column makes slices."""


@dataclass(frozen=True)
class Slice:
    """Some of the validation rows.

    Args:
        name: what the rows have in common.
        rows: their numbers in the order of evaluation.
        metric: the main metric of their task.
        is_minimized: whether a lower metric is better.
    """

    name: str
    rows: list[int]
    metric: str
    is_minimized: bool


@dataclass(frozen=True)
class SliceQuality:
    """The main metric on a slice.

    Args:
        name: of the slice.
        rows: their number.
        metric: its name.
        scores: by model, ``teacher`` and ``student``.
        difference: student minus teacher; None without a teacher.
        interval: the 95 % interval of the difference; without a teacher, of the student.
        loss: by how much the student is worse than the teacher; without a teacher, than on all rows.
        total_loss: by how much the student is worse than the teacher on all rows.
        loses_more: whether the whole interval is a loss, and a larger one than that on all rows.
    """

    name: str
    rows: int
    metric: str
    scores: dict[str, float]
    difference: float | None
    interval: list[float]
    loss: float
    total_loss: float = 0.0
    loses_more: bool = False


def find_slices(task: Task, rows: Dataset) -> list[Slice]:
    """Return the slices of the validation rows of a task, or of each of several tasks; none of raw text.

    Args:
        task: with the tables of its parts.
        rows: the encoded validation rows, in the order of evaluation.
    """
    groups, slices = task.row_groups(rows), []
    lengths, indices = [len(ids) for ids in values_of(rows, "input_ids")], rows["row"]
    for number, (name, part) in enumerate(task.parts.items()):
        positions = [i for i, group in enumerate(groups) if group == number]
        if part.in_order or part.validation is None or len(positions) != len(part.validation):
            continue
        keys = [length_names([lengths[i] for i in positions])]
        keys += [[column[indices[i]] for i in positions] for column in column_names(part)]
        metric = f"{name}/{part.main_metric}" if name else part.main_metric
        for names in keys:
            sizes = Counter(names)
            slices += [
                Slice(
                    f"{name}: {key}" if name else key,
                    [i for i, other in zip(positions, names, strict=True) if other == key],
                    metric,
                    part.metric_mode == "min",
                )
                for key, size in sizes.items()
                if MIN_ROWS <= size < len(positions)
            ]
    return slices


def length_names(lengths: list[int]) -> list[str]:
    """Return for each length the third of the lengths to which it belongs: "up to 12 tokens", "13 to 24 tokens"."""
    order, names = sorted(lengths), []
    low, high = (order[math.ceil(third * len(order) / 3) - 1] for third in (1, 2))
    middle = f"{low + 1} to {high} tokens" if high > low + 1 else f"{high} tokens"
    for length in lengths:
        names.append(f"up to {low} tokens" if length <= low else middle if length <= high else f"over {high} tokens")
    return names


def column_names(task: DataTask) -> list[list[str]]:
    """Return for each column that the task does not read, and that has few values, "column: value" for each row."""
    columns = []
    for column in task.validation.column_names:
        if column in (*task.columns, *task.added_columns, *task.soft_columns):
            continue
        feature = task.validation.features[column]
        if not isinstance(feature, Value | ClassLabel) or "binary" in feature.dtype:
            continue
        values = list(values_of(task.validation, column))
        if isinstance(feature, ClassLabel):
            values = [None if value is None or value < 0 else feature.int2str(value) for value in values]
        names = ["missing" if value is None or value == "" else str(value) for value in values]
        if 2 <= len(set(names)) <= MAX_VALUES:
            columns.append([f"{column}: {name}" for name in names])
    return columns


def slice_quality(slices: list[Slice], results: dict[str, EvalResult]) -> list[SliceQuality]:
    """Return the main metric of the student, and of the teacher if there is one, on each slice, the worst first.

    Args:
        slices: of the validation rows.
        results: of ``teacher``, if any, and ``student``; the rows are drawn alike for both, so that the interval of
            their difference is paired.
    """
    quality = [_measure(part, results) for part in slices]
    return sorted(quality, key=lambda part: (math.isnan(part.loss), -part.loss))


def _measure(part: Slice, results: dict[str, EvalResult]) -> SliceQuality:
    count, metric, sign = len(part.rows), part.metric, 1 if part.is_minimized else -1
    scores = {name: result.states.value(metric, part.rows) for name, result in results.items()}
    drawn = {name: result.states.replicates(part.rows, [metric])[metric] for name, result in results.items()}
    total = {name: result.metrics[metric] for name, result in results.items()}
    if "teacher" not in results:
        loss = sign * (scores["student"] - total["student"])
        return SliceQuality(part.name, count, metric, scores, None, percentile_interval(drawn["student"]), loss)
    interval = percentile_interval(drawn["student"] - drawn["teacher"])
    difference, total_loss = scores["student"] - scores["teacher"], sign * (total["student"] - total["teacher"])
    loses_more = min(sign * edge for edge in interval) > max(0.0, total_loss)
    return SliceQuality(
        part.name, count, metric, scores, difference, interval, sign * difference, total_loss, loses_more
    )
