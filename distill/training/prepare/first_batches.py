"""The first training batches, before there is a trainer: for building a student from data, and for checks."""

from __future__ import annotations

from collections.abc import Iterator

from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from distill.data.batches import Collator, LengthGroupedBatchSampler
from distill.tasks.augment.augmentation import AugmentedDataset
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
    order = LengthGroupedBatchSampler(list(rows["length"]), task.batch_size, seed, groups=task.row_groups(rows))
    rows, collate = rows.remove_columns("length"), Collator(tokenizer, start, task.finalize_batch)
    shown = AugmentedDataset(rows, [task.redraw], order) if task.redraws_rows else rows
    for numbers in order:
        yield collate([shown[number] for number in numbers])
