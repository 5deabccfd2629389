"""A vocabulary that is cut at the end: the tokens training shows, validation rows spelled anew, what is told of it.

While it trains the student reads what its teacher reads; only the deployed student has fewer tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.loss import prediction_mask
from students.tokenizer.vocabulary import Vocabulary


def describe_cut(
    vocabulary: Vocabulary,
    batches: list[dict[str, Tensor]],
    own: list[dict[str, Tensor]],
    sizes: tuple[int, int],
    whole: str,
) -> str:
    """Return what the report says.

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
    asked, answered = (sum(int(prediction_mask(batch).sum()) for batch in given) for given in (batches, own))
    rows = sum(len(batch["input_ids"]) for batch in batches)
    text = (
        f"vocabulary: {len(vocabulary.keep):,} of {vocabulary.num_before:,} tokens are left, "
        f"{vocabulary.num_seen:,} seen in training and the rest to spell others; "
        f"{sizes[0]:,} parameters became {sizes[1]:,}; {changed} of {rows} "
        f"validation rows are spelled otherwise; before, the student's {whole}"
    )
    if asked != answered:
        text += f"; {asked - answered} of {asked} labels are cut off at max_length with their words"
    return text
