"""Tell linear layers: torch's, and GPT-2's ``Conv1D``, whose weight is transposed."""

from __future__ import annotations

from torch import nn


def is_conv1d(module: nn.Module) -> bool:
    """Return whether this is GPT-2's linear layer, whose weight is [in, out]."""
    from transformers.pytorch_utils import Conv1D  # not above: a config is read without transformers

    return isinstance(module, Conv1D)


def is_linear(module: nn.Module) -> bool:
    """Return whether this is a linear layer, of torch or GPT-2."""
    return isinstance(module, nn.Linear) or is_conv1d(module)
