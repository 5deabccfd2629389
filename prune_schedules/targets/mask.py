"""A mask on a weight: a parametrization that sets entries to zero and lets them come back."""

from typing import ClassVar

import torch
from torch import Tensor, nn


def apply_mask(weight: Tensor, mask: Tensor) -> Tensor:
    """Return ``weight`` times ``mask`` (0 to 1, broadcastable), with masked gradients, in the dtype of the weight."""
    return weight * mask.to(weight.dtype)


class _StraightThroughMask(torch.autograd.Function):
    """``apply_mask``, with a gradient as if there were no mask."""

    @staticmethod
    def forward(ctx, weight: Tensor, mask: Tensor) -> Tensor:
        return apply_mask(weight, mask)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Mask(nn.Module):
    """A mask on a weight; the raw weight is kept, so that entries may come back.

    ``mask`` (bool, broadcastable to the weight: its own shape for elements, [n, 1] for rows) is a buffer and thus
    saved. ``enabled`` follows from it, also on loading: a mask that removes nothing is disabled and costs nothing.

    Three attributes last for one training step. ``gate`` (a tensor of the mask's shape) multiplies the weight as well.
    ``straight_through`` lets the gradient through as if there were neither, for scores that read it and mask it again
    before the optimizer's step. ``suspended`` is set where gates replace the mask. Evaluation, which may come between
    two batches of a step, uses the mask alone.
    """

    order: ClassVar[int] = 0

    def __init__(self, shape: torch.Size | tuple[int, ...], device: torch.device | None = None):
        super().__init__()
        self.register_buffer("mask", torch.ones(shape, dtype=torch.bool, device=device))
        # The mask in float32 while it is enabled: a bool would be cast again at every use.
        self.register_buffer("float_mask", None, persistent=False)
        self.enabled, self.straight_through, self.suspended = False, False, False
        self.gate: Tensor | None = None
        self.register_load_state_dict_post_hook(_update_enabled)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the masked weight."""
        factor = self.factor()
        if factor is None:
            return weight
        return _StraightThroughMask.apply(weight, factor) if self.straight_through else apply_mask(weight, factor)

    def factor(self) -> Tensor | None:
        """Return the float32 tensor by which the weight is multiplied, if any."""
        mask = self.float_mask if self.enabled and not (self.suspended and self.training) else None
        if self.gate is None or not self.training:
            return mask
        return self.gate if mask is None else self.gate * mask

    def keep(self, kept: Tensor) -> None:
        """Keep the entries given by a bool tensor with as many entries as ``mask``."""
        self.mask.copy_(kept.reshape(self.mask.shape))
        _update_enabled(self, None)


def _update_enabled(mask: Mask, incompatible_keys: object) -> None:
    mask.enabled = not bool(mask.mask.all())
    mask.float_mask = mask.mask.to(torch.float32) if mask.enabled else None
