"""A vocabulary that is cut at the end: the tokens training shows, validation rows spelled anew, what is told of it.

While it trains the student reads what its teacher reads; only the deployed student has fewer tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from distill.data import encode
from distill.tasks import MultiTask, Task
from distill.tasks.augment import Augmentation
from losses.loss import predicted
from students.tokenizer.vocabulary import Vocabulary


def shown(rows: Dataset, steps: Iterable[Augmentation]) -> set[int]:
    """The tokens that may stand in training rows, once augmentations have changed them."""
    found = {token for ids in rows["input_ids"] for token in ids}
    for step in steps:
        found = step.reach(found)
    return found


def respelled(task: Task, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The validation rows in their order, with what a tokenizer of fewer tokens makes of their texts."""
    parts, kinds, found = list(task.tasks.values()) if isinstance(task, MultiTask) else [task], task.kinds(rows), []
    for number, part in enumerate(parts):
        other = copy(part)
        other.tokenizer = tokenizer
        chosen = [row for row, kind in zip(rows["row"], kinds, strict=True) if kind == number]
        found.append(encode(other, part.validation).select(chosen))
    # What is not a list is of the whole row, and the same.
    lists = [name for name, value in rows[0].items() if isinstance(value, list)]
    spelled = concatenate_datasets([part.select_columns(lists) for part in found])
    return concatenate_datasets([spelled, rows.remove_columns(lists)], axis=1)


def told(
    vocabulary: Vocabulary,
    batches: list[dict[str, Tensor]],
    own: list[dict[str, Tensor]],
    sizes: tuple[int, int],
    whole: str,
) -> str:
    """What the report says.

    Args:
        vocabulary: the one that is left.
        batches: validation rows with all tokens.
        own: the same with those that are left.
        sizes: the student's parameters before and after.
        whole: what the student was worth before.
    """
    names = ("input_ids", "attention_mask")
    changed = sum(
        not torch.equal(old[read.bool()], vocabulary.keep[new[left.bool()]])
        for before, after in zip(batches, own, strict=True)
        for old, read, new, left in zip(*(b[name] for b in (before, after) for name in names), strict=True)
    )
    asked, answered = (sum(int(predicted(batch).sum()) for batch in given) for given in (batches, own))
    rows = sum(len(batch["input_ids"]) for batch in batches)
    text = (
        f"vocabulary: {len(vocabulary.keep):,} of {vocabulary.before:,} tokens are left, {vocabulary.seen:,} seen in "
        f"training and the rest to spell others; {sizes[0]:,} parameters became {sizes[1]:,}; {changed} of {rows} "
        f"validation rows are spelled otherwise; before, the student's {whole}"
    )
    if asked != answered:
        text += f"; {asked - answered} of {asked} labels are cut off at max_length with their words"
    return text
