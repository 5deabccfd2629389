"""The batch, from the collator to models, losses and metrics.

::

    rows → Collator: padded tensors, and the count of each loss → TrainLoader: the counts of the accumulation window
         → device → traces → losses

A batch holds all that later stages need to know of it.
"""

from __future__ import annotations

from torch import Tensor

SEPARATOR = "/"
"""Between the name of a teacher and that of an input of its own: ``teacher/input_ids``."""

Batch = dict[str, Tensor]
"""The tensors of B rows of S tokens, by name; a task may add its own.

- ``input_ids``: the tokens, [B, S]; always present.
- ``attention_mask``: 1 at tokens and 0 at padding, [B, S].
- ``token_type_ids``: which of two texts a token belongs to, [B, S].
- ``decoder_input_ids``: the input of the decoder of an encoder-decoder, [B, T]: the labels, shifted by one.
- ``decoder_attention_mask``: 1 at tokens of the decoder's input and 0 at padding, [B, T].
- ``labels``: one for each prediction: [B], [B, S] or [B, T]; classes are integers, and -100 is ignored.
- ``NAME/input_ids``, ``NAME/attention_mask``, …: the inputs of the teacher NAME, if its tokenizer is not the student's,
  padded with zeros (``own_tokens.py``).
- ``row``: the indices of the training rows, [B], if a teacher has a cache.
- ``task``: the index of the task, [B], if there are several; the same in all rows.
- ``counts``: the count of each loss in these rows, float32 [L] in the order of the losses; only for training.
- ``idle``: present if this process has no row of its own in the batch, so that its results do not count.
- ``window``: the sum of ``counts`` over the batch's accumulation window, [L], of this process, without idle batches.

All but ``input_ids`` are optional: without ``attention_mask`` no token is padding.
"""
