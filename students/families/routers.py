"""Routers of experts: hide experts from one, so that it chooses as if they had been cut out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class HiddenExperts(TorchFunctionMode):
    """While it is entered, a linear layer with an output for each expert gives the hidden ones a logit of -inf.

    So the router that runs gives them a probability of 0, and chooses them only where too few others are left, with a
    weight of 0. What a router adds to its probabilities before it chooses, a number for each expert (DeepSeek-V3), is
    -inf for the hidden ones too.

    Args:
        shown: which experts are not hidden, bool [experts].
    """

    def __init__(self, shown: Tensor):
        super().__init__()
        self.shown = shown

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        output, count = func(*args, **(kwargs or {})), self.shown.shape
        is_bias = getattr(func, "__name__", "").strip("_") in ("add", "radd") and any(
            isinstance(term, Tensor) and term.shape == count for term in args
        )
        if (func is functional.linear or is_bias) and output.shape[-1:] == count:
            return output.masked_fill(~self.shown, -torch.inf)
        return output
