"""The first training batches, before there is a trainer: for building a student from data, and for checks."""

from __future__ import annotations

from collections.abc import Iterator

from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from distill.data.batches import Collate, LengthGrouped
from distill.tasks.augment.augmentation import Augmented
from distill.tasks.task import Task


def first_batches(
    task: Task, rows: Dataset, tokenizer: PreTrainedTokenizerBase, start: int | None, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the batches of the first epoch of a single process, the same on all ranks, without augmentation.

    Rows are read lazily, and torch's random state is not changed.

    Args:
        task: the task of the run.
        rows: the training rows as tokens.
        tokenizer: gives the padding token.
        start: the first token of a decoder, None without one.
        seed: the seed of the order.
    """
    order = LengthGrouped(list(rows["length"]), task.batch_size, seed, kinds=task.kinds(rows))
    rows, collate = rows.remove_columns("length"), Collate(tokenizer, start, task.finish)
    shown = Augmented(rows, [task.draw], order) if task.redrawn else rows
    for numbers in order:
        yield collate([shown[number] for number in numbers])
