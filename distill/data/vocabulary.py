"""Rows and a smaller vocabulary: the tokens that training shows, and validation rows spelled anew."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from distill.data.rows import encode
from distill.tasks.augment.augmentation import Augmentation
from distill.tasks.task import Task


def shown(rows: Dataset, steps: Iterable[Augmentation]) -> set[int]:
    """The tokens that may stand in training rows, once augmentations have changed them."""
    found = {token for ids in rows["input_ids"] for token in ids}
    for step in steps:
        found = step.reach(found)
    return found


def respelled(task: Task, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The validation rows in their order, with what a tokenizer of fewer tokens makes of their texts."""
    kinds, found = task.kinds(rows), []
    for number, part in enumerate(task.parts.values()):
        other = copy(part)
        other.tokenizer = tokenizer
        chosen = [row for row, kind in zip(rows["row"], kinds, strict=True) if kind == number]
        found.append(encode(other, part.validation).select(chosen))
    # What is not a list is of the whole row, and the same.
    lists = [name for name, value in rows[0].items() if isinstance(value, list)]
    spelled = concatenate_datasets([part.select_columns(lists) for part in found])
    return concatenate_datasets([spelled, rows.remove_columns(lists)], axis=1)
