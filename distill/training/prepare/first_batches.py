"""What a student that is being built may look at: the batches of training, before there is a trainer."""

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
    """Those of the first epoch as a single process has them, and so the same on all; rows are not augmented.

    Nothing is read before a batch is asked for, and no number is drawn of torch's own random ones.

    Args:
        task: of the run.
        rows: the training rows as tokens.
        tokenizer: knows what stands at padding.
        start: what a decoder with a text of its own is given first.
        seed: of their order.
    """
    order = LengthGroupedBatchSampler(list(rows["length"]), task.batch_size, seed, groups=task.row_groups(rows))
    rows, collate = rows.remove_columns("length"), Collator(tokenizer, start, task.finalize_batch)
    shown = AugmentedDataset(rows, [task.redraw], order) if task.redraws_rows else rows
    for numbers in order:
        yield collate([shown[number] for number in numbers])
