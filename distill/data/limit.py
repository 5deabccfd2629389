"""What ``max_length`` cuts off of rows: tokens, and labels with them."""

from __future__ import annotations

from copy import copy

import torch
from datasets import Dataset

from distill.tasks.columns import values_of
from distill.tasks.facts import Truncation
from distill.tasks.task import DataTask

UNLIMITED = 10**9
"""More tokens than a row has."""

Row = tuple[list[int], list[int] | int | float]
"""Tokens and labels of a row."""


def uncut(task: DataTask, table: Dataset, rows: Dataset) -> tuple[list[Row], list[Row]]:
    """The rows as they were encoded, and as they would have been without a limit.

    Args:
        task: is set up; its rows do not go on in the next one.
        table: the rows as they are in the file.
        rows: the same as tokens.
    """
    there = list(zip(values_of(rows, "input_ids"), values_of(rows, "labels"), strict=True))
    whole = there.copy()
    if full := [i for i, row in enumerate(there) if max(_lengths(row)) >= task.max_length]:
        longer = copy(task)
        longer.max_length = UNLIMITED
        found = longer.encode(table.select(full)[:])
        for i, row in zip(full, zip(found["input_ids"], found["labels"], strict=True), strict=True):
            whole[i] = row
    return there, whole


def truncation(there: list[Row], whole: list[Row], written: bool) -> Truncation:
    """The tokens that are lost, of ``uncut``: of the texts, and where texts are ``written``, of these."""
    counts = [[sum(_lengths(row)) if written else len(row[0]) for row in rows] for rows in (there, whole)]
    lost = [after - before for before, after in zip(*counts, strict=True)]
    return Truncation(sum(map(bool, lost)), sum(lost), len(there), sum(counts[1]))


def labels_lost(task: DataTask, split: str, there: list[Row], whole: list[Row]) -> list[str]:
    """What is to be told of the labels that are lost, of ``uncut``.

    Raises:
        ValueError: if none is left to train on, or to judge by.
    """
    kept, asked = ([task.targets(labels) for _, labels in rows] for rows in (there, whole))
    (name, purpose), lost = _PURPOSE[split], sum(asked) - sum(kept)
    if not any(kept):
        why = f"{lost:,} of {sum(asked):,} {name} {task.label_noun} lie beyond {task.max_length} tokens"
        none = f"no token belongs to any of the {name} {task.label_noun}"
        raise ValueError(f"max_length: {why if lost else none}, so there is nothing to {purpose}")
    told = []
    if lost:
        why = f"lie beyond max_length: {task.max_length}, and {task.label_lost[split]}"
        told.append(f"{lost:,} of {sum(asked):,} {name} {task.label_noun} {why}")
    if none := asked.count(0):
        told.append(f"{none:,} of {len(asked):,} {name} rows have none of their {task.label_noun} in a token")
    return told


def check_pieces(task: DataTask, split: str, rows: Dataset) -> None:
    """Raises ValueError if no token of a raw text can be asked for."""
    first = task.draw(rows[0], torch.Generator().manual_seed(0)) if len(rows) else {"labels": []}
    if not task.targets(first["labels"]):
        name, purpose = _PURPOSE[split]
        raise ValueError(f"data: no token of the {name} text can be asked for, so there is nothing to {purpose}")


_PURPOSE = {"train": ("training", "train on"), "validation": ("validation", "judge by")}


def _lengths(row: Row) -> list[int]:
    return [len(part) for part in row if isinstance(part, list)]
