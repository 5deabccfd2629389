"""Rows and a smaller vocabulary: the tokens that training uses, and validation rows tokenized again."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from distill.data.rows import encode
from distill.data.teachers.own_columns import student_rows
from distill.tasks.augment.augmentation import Augmentation
from distill.tasks.task import Task


def reachable_tokens(rows: Dataset, steps: Iterable[Augmentation]) -> set[int]:
    """Return the tokens that training rows may have, including those that augmentations insert."""
    tokens = {token for ids in rows["input_ids"] for token in ids}
    for step in steps:
        tokens = step.reachable_tokens(tokens)
    return tokens


def retokenize(task: Task, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Return the validation rows, in their order, tokenized by a tokenizer with fewer tokens, for the student alone."""
    rows = student_rows(rows)
    groups, encoded = task.row_groups(rows), []
    for number, part in enumerate(task.parts.values()):
        with_tokenizer = copy(part)
        with_tokenizer.tokenizer, with_tokenizer.teacher_encoders = tokenizer, {}
        indices = [row for row, group in zip(rows["row"], groups, strict=True) if group == number]
        encoded.append(encode(with_tokenizer, part.validation).select(indices))
    # Columns that are not lists belong to the whole row and do not change.
    lists = [name for name, value in rows[0].items() if isinstance(value, list)]
    tokenized = concatenate_datasets([part.select_columns(lists) for part in encoded])
    return concatenate_datasets([tokenized, rows.remove_columns(lists)], axis=1)
