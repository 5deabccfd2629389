"""The batch, from the collator to models, losses and metrics.

::

    rows → Collator: padded tensors, and the count of each loss → TrainLoader: the counts of the accumulation window
         → device → traces → losses

A batch holds all that later stages need to know of it.
"""

from __future__ import annotations

from typing import TypedDict

from torch import Tensor


class Batch(TypedDict, total=False):
    """The tensors of B rows of S tokens; a task may add its own.

    All keys but ``input_ids`` are optional: without ``attention_mask`` no token is padding.
    """

    input_ids: Tensor
    """The tokens, [B, S]; always present."""
    attention_mask: Tensor
    """1 at tokens and 0 at padding, [B, S]."""
    token_type_ids: Tensor
    """Which of two texts a token belongs to, [B, S]."""
    decoder_input_ids: Tensor
    """The input of the decoder of an encoder-decoder, [B, T]: the labels, shifted by one."""
    decoder_attention_mask: Tensor
    """1 at tokens of the decoder's input and 0 at padding, [B, T]."""
    labels: Tensor
    """One for each prediction: [B], [B, S] or [B, T]; classes are integers, and -100 is ignored."""
    row: Tensor
    """The indices of the training rows, [B], if a teacher has a cache."""
    task: Tensor
    """The index of the task, [B], if there are several; the same in all rows."""
    counts: Tensor
    """The count of each loss in these rows, float32 [L] in the order of the losses; only for training."""
    idle: Tensor
    """Present if this process has no row of its own in the batch, so that its results do not count."""
    window: Tensor
    """The sum of ``counts`` over the batch's accumulation window, [L], of this process; idle batches do not count."""
