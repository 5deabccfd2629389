"""A mask on a weight: a step that holds entries at zero and lets them come back."""

from typing import ClassVar

import torch
from torch import Tensor, nn


def apply_mask(weight: Tensor, mask: Tensor) -> Tensor:
    """``weight`` where ``mask`` (bool, broadcastable) is true, else 0, also in the gradient."""
    # On a CPU faster than torch.where with its backward; there a bool would be cast twice, and slowly.
    return weight * (mask.view(torch.uint8).to(weight.dtype) if weight.device.type == "cpu" else mask)


class Mask(nn.Module):
    """Holds entries of a weight at zero; the weight beneath is kept, so that they may come back.

    ``mask`` (bool, broadcastable to the weight: its own shape for elements, [n, 1] for rows) is a buffer and
    thus saved. ``enabled`` follows from it, also on loading: a mask that removes nothing is off and costs
    nothing.
    """

    order: ClassVar[int] = 0

    def __init__(self, shape: torch.Size | tuple[int, ...], device: torch.device | None = None):
        super().__init__()
        self.register_buffer("mask", torch.ones(shape, dtype=torch.bool, device=device))
        self.enabled = False
        self.register_load_state_dict_post_hook(_switch)

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        return apply_mask(weight, self.mask) if self.enabled else weight

    def keep(self, mask: Tensor) -> None:
        """Keep from now on the entries that ``mask`` names, which has the shape given at the start."""
        self.mask.copy_(mask.view_as(self.mask))
        _switch(self, None)


def _switch(mask: Mask, missing: object) -> None:
    mask.enabled = not bool(mask.mask.all())
