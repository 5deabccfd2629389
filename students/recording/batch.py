"""A batch: what the collator makes of rows, and every model, loss and metric reads.

::

    rows → Collator: padded tensors, and what each loss counts in them → TrainLoader: the counts of the whole window
         → the device → traces → losses

Nothing is asked back: what a later stage needs to know of a batch stands in it.
"""

from __future__ import annotations

from typing import TypedDict

from torch import Tensor


class Batch(TypedDict, total=False):
    """The tensors of B rows of S tokens; a task may add others, whose names it alone knows.

    What is not there does not exist: without ``attention_mask`` no token is padding.
    """

    input_ids: Tensor
    """The tokens, [B, S]; always there."""
    attention_mask: Tensor
    """1 at tokens and 0 at padding, [B, S]."""
    token_type_ids: Tensor
    """Which of two texts a token belongs to, [B, S]."""
    decoder_input_ids: Tensor
    """What a decoder with a text of its own reads, [B, T]: its labels, moved by one."""
    decoder_attention_mask: Tensor
    """1 at tokens of that text and 0 at padding, [B, T]."""
    labels: Tensor
    """One for each prediction: [B], [B, S] or [B, T]; classes are integers, and -100 asks for nothing."""
    row: Tensor
    """Which of the training rows they are, [B], where a teacher has a cache."""
    task: Tensor
    """Which of several tasks they belong to, [B]; all to the same."""
    counts: Tensor
    """What each loss counts in these rows, float32 [L] in the order of the losses; only of training rows."""
    idle: Tensor
    """There if this process has no row of its own in the batch, and what it makes of it does not count."""
    window: Tensor
    """The sum of ``counts`` over the accumulation window that the batch is part of, [L], of this process; without
    those in which it is idle."""
