"""What rows lose at ``max_length``: counted and told, and refused where nothing is left."""

from __future__ import annotations

from copy import copy

import torch
from datasets import Dataset

from distill.data.facts import Truncation
from distill.tasks import DataTask
from distill.tasks.columns import values_of

UNLIMITED = 10**9
"""More tokens than a row has."""


def lost(task: DataTask, split: str, table: Dataset, rows: Dataset) -> tuple[Truncation | None, list[str]]:
    """What the encoded rows of a split have lost of their tokens, and what is to be told of their labels.

    Args:
        task: that encoded them.
        split: ``train`` or ``validation``.
        table: the rows as they were.
        rows: what ``encode`` made of them; one of each, but for the tasks on raw text, which cut nothing off.

    Returns:
        The tokens, None where rows are cut into pieces; and notes.

    Raises:
        ValueError: if no row asks for a prediction.
    """
    name, purpose = ("training", "train on") if split == "train" else ("validation", "judge by")
    if task.in_order:
        first = task.draw(rows[0], torch.Generator().manual_seed(0)) if len(rows) else {"labels": []}
        if not task.targets(first["labels"]):
            raise ValueError(f"data: no token of the {name} text can be asked for, so there is nothing to {purpose}")
        return None, []
    ids, labels = list(values_of(rows, "input_ids")), list(values_of(rows, "labels"))
    tokens, targets = [len(row) for row in ids], [task.targets(label) for label in labels]
    written = [len(label) if isinstance(label, list) else 1 for label in labels]
    all_tokens, all_targets = tokens.copy(), targets.copy()
    if full := [i for i, counts in enumerate(zip(tokens, written, strict=True)) if max(counts) >= task.max_length]:
        unlimited = copy(task)
        unlimited.max_length = UNLIMITED
        whole = unlimited.encode(table.select(full)[:])
        for i, row, label in zip(full, whole["input_ids"], whole["labels"], strict=True):
            all_tokens[i], all_targets[i] = len(row), task.targets(label)
    gone, there = sum(all_targets) - sum(targets), sum(all_targets)
    shorter = sum(now < then for now, then in zip(tokens, all_tokens, strict=True))
    truncation = Truncation(shorter, sum(all_tokens) - sum(tokens), len(rows), sum(all_tokens))
    limit = f"max_length: {task.max_length}"
    if not any(targets):
        why = f"{gone:,} of {there:,} {name} {task.label_noun} lie beyond {task.max_length} tokens"
        none = f"no token belongs to any of the {name} {task.label_noun}"
        raise ValueError(f"max_length: {why if gone else none}, so there is nothing to {purpose}")
    notes = []
    if gone:
        notes.append(f"{gone:,} of {there:,} {name} {task.label_noun} lie beyond {limit}, and {task.label_lost[split]}")
    if none := all_targets.count(0):
        notes.append(f"{none:,} of {len(rows):,} {name} rows have none of their {task.label_noun} in a token")
    return truncation, notes
