"""The tokens and labels that ``max_length`` truncates."""

from __future__ import annotations

from copy import copy

import torch
from datasets import Dataset

from distill.tasks.columns import values_of
from distill.tasks.data_task import DataTask
from distill.tasks.facts import Truncation
from students.recording.second_text import TEXTS

UNLIMITED = 10**9
"""A ``max_length`` beyond the length of any row."""

Row = tuple[list[int], list[int] | int | float]
"""Tokens and labels of a row."""


def text_lengths(rows: Dataset, prefix: str = "") -> list[int]:
    """Return the tokens of the text that a model reads in each row, of several texts those of the longest.

    Args:
        rows: tokenized.
        prefix: of the columns.
    """
    if f"{prefix}sizes" in rows.column_names:
        return [max(sizes) for sizes in values_of(rows, f"{prefix}sizes")]
    columns = [name for name in (f"{prefix}{text}input_ids" for text in TEXTS) if name in rows.column_names]
    lengths = [[len(ids) for ids in values_of(rows, name)] for name in columns]
    return [max(of_row) for of_row in zip(*lengths, strict=True)]


def encode_untruncated(task: DataTask, table: Dataset, rows: Dataset) -> tuple[list[Row], list[Row]]:
    """Return the tokens and labels of rows as they were encoded, and as they would be without truncation.

    Args:
        task: is set up; its rows are independent (not ``in_order``).
        table: the rows of the file.
        rows: the same rows, tokenized.
    """
    encoded = list(zip(values_of(rows, "input_ids"), values_of(rows, "labels"), strict=True))
    untruncated = encoded.copy()
    has_shared_words = task.reads_words and task.teacher_encoders  # a teacher may read fewer words of any row
    if at_limit := [i for i, row in enumerate(encoded) if has_shared_words or max(_lengths(row)) >= task.max_length]:
        unlimited = copy(task)
        unlimited.max_length, unlimited.teacher_encoders = UNLIMITED, {}
        columns = unlimited.encode(table.select(at_limit)[:])
        for i, row in zip(at_limit, zip(columns["input_ids"], columns["labels"], strict=True), strict=True):
            untruncated[i] = row
    return encoded, untruncated


def measure_truncation(encoded: list[Row], untruncated: list[Row], count_labels: bool) -> Truncation:
    """Return the number of truncated rows and tokens.

    Args:
        encoded: rows as they were encoded.
        untruncated: the same rows without a limit.
        count_labels: whether labels are texts, whose tokens count as well.
    """
    counts, full_counts = (
        [sum(_lengths(row)) if count_labels else len(row[0]) for row in rows] for rows in (encoded, untruncated)
    )
    lost = [full - count for count, full in zip(counts, full_counts, strict=True)]
    return Truncation(sum(map(bool, lost)), sum(lost), len(encoded), sum(full_counts))


def lost_label_warnings(task: DataTask, split: str, encoded: list[Row], untruncated: list[Row]) -> list[str]:
    """Return warnings about labels that truncation removes.

    Args:
        task: is set up.
        split: ``train``, ``validation`` or ``test``.
        encoded: rows as they were encoded.
        untruncated: the same rows without a limit.

    Raises:
        ValueError: if no label is left to train on or to evaluate.
    """
    counts, full_counts = ([task.count_targets(labels) for _, labels in rows] for rows in (encoded, untruncated))
    (name, purpose), lost = _PURPOSE[split], sum(full_counts) - sum(counts)
    if not any(counts):
        beyond = f"{lost:,} of {sum(full_counts):,} {name} {task.label_noun} lie beyond {task.max_length} tokens"
        no_token = f"no token belongs to any of the {name} {task.label_noun}"
        raise ValueError(f"max_length: {beyond if lost else no_token}, so there is nothing to {purpose}")
    warnings = []
    if lost:
        teacher = " or are not read by the teacher" if task.reads_words and task.teacher_encoders else ""
        reason = f"lie beyond max_length: {task.max_length}{teacher}, and {task.lost_label_effect[split]}"
        warnings.append(f"{lost:,} of {sum(full_counts):,} {name} {task.label_noun} {reason}")
    if unmatched := full_counts.count(0):
        rows = f"{unmatched:,} of {len(full_counts):,} {name} rows"
        warnings.append(f"{rows} have none of their {task.label_noun} in a token")
    return warnings


def check_pieces(task: DataTask, split: str, rows: Dataset) -> None:
    """Check that raw text has at least one token to predict.

    Raises:
        ValueError: if it has none.
    """
    first = task.redraw(rows[0], torch.Generator().manual_seed(0)) if len(rows) else {"labels": []}
    if not task.count_targets(first["labels"]):
        name, purpose = _PURPOSE[split]
        raise ValueError(f"data: the {name} text has no token to predict, so there is nothing to {purpose}")


_PURPOSE = {
    "train": ("training", "train on"),
    "validation": ("validation", "evaluate on"),
    "test": ("test", "evaluate on"),
}


def _lengths(row: Row) -> list[int]:
    return [len(part) for part in row if isinstance(part, list)]
