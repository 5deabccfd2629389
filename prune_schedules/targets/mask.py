"""A mask on a weight: a step that holds entries at zero and lets them come back."""

from typing import ClassVar

import torch
from torch import Tensor, nn


def apply_mask(weight: Tensor, mask: Tensor) -> Tensor:
    """``weight`` times ``mask`` (0, 1 or what lies between, broadcastable), also in the gradient; its dtype stays."""
    return weight * mask.to(weight.dtype)


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
    nothing. For the time of one training step, ``factor`` (a tensor of the mask's shape) multiplies the weight as
    well; ``straight`` lets the gradient through as if there were neither, for those who look at it and take it away
    again before the optimizer's step; and ``idle`` is set where something else stands for the mask. In evaluation,
    which may come between two batches of a step, the mask alone counts.
    """

    order: ClassVar[int] = 0

    def __init__(self, shape: torch.Size | tuple[int, ...], device: torch.device | None = None):
        super().__init__()
        self.register_buffer("mask", torch.ones(shape, dtype=torch.bool, device=device))
        # The same in float32, while there is anything to remove: a bool would be cast again at every use.
        self.register_buffer("kept", None, persistent=False)
        self.enabled, self.straight, self.idle = False, False, False
        self.factor: Tensor | None = None
        self.register_load_state_dict_post_hook(_switch)

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        factor = self.applied()
        if factor is None:
            return weight
        return _Straight.apply(weight, factor) if self.straight else apply_mask(weight, factor)

    def applied(self) -> Tensor | None:
        """What the weight is multiplied by, if by anything, float32."""
        kept = self.kept if self.enabled and not (self.idle and self.training) else None
        if self.factor is None or not self.training:
            return kept
        return self.factor if kept is None else self.factor * kept

    def keep(self, mask: Tensor) -> None:
        """Keep from now on the entries that ``mask`` names, which has the shape given at the start."""
        self.mask.copy_(mask.reshape(self.mask.shape))
        _switch(self, None)


def _switch(mask: Mask, missing: object) -> None:
    mask.enabled = not bool(mask.mask.all())
    mask.kept = mask.mask.to(torch.float32) if mask.enabled else None
