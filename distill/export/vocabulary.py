"""Describe the cut of the vocabulary for the report.

In training the student reads the teacher's tokens; only the deployed student has fewer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.loss import prediction_mask
from students.tokenizer.vocabulary import Vocabulary


def describe_cut(
    vocabulary: Vocabulary,
    batches: list[dict[str, Tensor]],
    student_batches: list[dict[str, Tensor]],
    sizes: tuple[int, int],
    uncut: str,
) -> str:
    """Return a note for the report.

    Args:
        vocabulary: the smaller vocabulary.
        batches: validation batches in the old tokens.
        student_batches: the same rows in the kept tokens.
        sizes: the student's parameters before and after the cut.
        uncut: the student's metric before the cut, as text.
    """
    names = ("input_ids", "attention_mask")
    changed = sum(
        not torch.equal(old[old_mask.bool()], vocabulary.keep[new[new_mask.bool()]])
        for before, after in zip(batches, student_batches, strict=True)
        for old, old_mask, new, new_mask in zip(*(b[name] for b in (before, after) for name in names), strict=True)
    )
    labels, labels_left = (sum(int(prediction_mask(b).sum()) for b in side) for side in (batches, student_batches))
    rows = sum(len(batch["input_ids"]) for batch in batches)
    text = (
        f"vocabulary: {len(vocabulary.keep):,} of {vocabulary.num_before:,} tokens are left, "
        f"{vocabulary.num_seen:,} seen in training and the rest to spell others; "
        f"{sizes[0]:,} parameters became {sizes[1]:,}; {changed} of {rows} "
        f"validation rows have other tokens; before the cut, the student's {uncut}"
    )
    if labels != labels_left:
        text += f"; {labels - labels_left} of {labels} labels are cut off at max_length with their words"
    return text
