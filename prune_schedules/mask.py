"""A mask on a weight: a step that holds entries at zero and lets them come back."""

from typing import ClassVar

import torch
from torch import Tensor, nn


def apply_mask(weight: Tensor, mask: Tensor) -> Tensor:
    """``weight`` where ``mask`` (bool, broadcastable) is true, else 0, also in the gradient."""
    # On a CPU faster than torch.where with its backward; there a bool would be cast twice, and slowly.
    return weight * (mask.view(torch.uint8).to(weight.dtype) if weight.device.type == "cpu" else mask)


class _Straight(torch.autograd.Function):
    """``apply_mask``, with a gradient as if there were no mask (straight through)."""

    @staticmethod
    def forward(ctx, weight: Tensor, mask: Tensor) -> Tensor:
        return apply_mask(weight, mask)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Mask(nn.Module):
    """Holds entries of a weight at zero; the weight beneath is kept, so that they may come back.

    ``mask`` (bool, broadcastable to the weight: its own shape for elements, [n, 1] for rows) is a buffer and
    thus saved. ``enabled`` follows from it, also on loading: a mask that removes nothing is off and costs
    nothing. While ``straight`` is set the gradient of the weight beneath is that of what is masked as well, for
    those who look at it; they take it away again before the optimizer's step. ``idle`` is set where another mask
    does the same for the time being.
    """

    order: ClassVar[int] = 0

    def __init__(self, shape: torch.Size | tuple[int, ...], device: torch.device | None = None):
        super().__init__()
        self.register_buffer("mask", torch.ones(shape, dtype=torch.bool, device=device))
        self.enabled, self.straight, self.idle = False, False, False
        self.register_load_state_dict_post_hook(_switch)

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        if not self.enabled or self.idle:
            return weight
        return _Straight.apply(weight, self.mask) if self.straight else apply_mask(weight, self.mask)

    def keep(self, mask: Tensor) -> None:
        """Keep from now on the entries that ``mask`` names, which has the shape given at the start."""
        self.mask.copy_(mask.reshape(self.mask.shape))
        _switch(self, None)


def _switch(mask: Mask, missing: object) -> None:
    mask.enabled = not bool(mask.mask.all())
