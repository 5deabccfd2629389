"""Routers with masked experts, which they choose for no token, as if the experts had been cut out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prune_schedules.targets.mask import Mask
from students.families.routers import HiddenExperts
from students.weights import get_weight_transforms

if TYPE_CHECKING:
    from students.structure.units import Units


class MaskedRouter(nn.Module):
    """A child of a router with the experts that it may choose: ``mask`` (bool [experts]), a buffer and thus saved.

    Masks on the router's weight have priority while there are any: they may be suspended, or replaced by gates, for one
    step. After they have been folded this buffer remains.

    Args:
        router: the module that gives each expert a logit.
        weight: the name of its weight.
        count: the number of experts.
    """

    def __init__(self, router: nn.Module, weight: str, count: int):
        super().__init__()
        device = next(router.parameters()).device
        self.register_buffer("mask", torch.ones(count, dtype=torch.bool, device=device))
        self.register_load_state_dict_post_hook(_update_enabled)
        self.handles = [
            router.register_forward_pre_hook(_hide_experts),
            router.register_forward_hook(_show_experts, always_call=True),
        ]
        self.weight_name, self.enabled = weight, False
        self.entered: HiddenExperts | None = None
        """While the router runs."""

    def keep(self, mask: Tensor) -> None:
        """Set the experts that may be chosen (bool [experts])."""
        self.mask.copy_(mask)
        _update_enabled(self, None)

    def active_mask(self, router: nn.Module) -> Tensor | None:
        """Return the experts that may be chosen in the current forward pass (bool [experts]); None if all may."""
        masks = [step for step in get_weight_transforms(router, self.weight_name) if isinstance(step, Mask)]
        if not masks:
            return self.mask if self.enabled else None
        active = [factor.flatten() > 0 for factor in (mask.factor() for mask in masks) if factor is not None]
        return torch.stack(active).all(dim=0) if active else None


def attach_router(units: Units) -> MaskedRouter:
    """Add ``masked_router`` to the router of a block's experts, if it has none, and return it."""
    part = units.slices[0]
    if not hasattr(part.module, "masked_router"):
        part.module.masked_router = MaskedRouter(part.module, part.name, units.count)
    return part.module.masked_router


def kept_experts(units: Units) -> Tensor:
    """Return which experts of a block its router may choose (bool [count])."""
    masked_router = getattr(units.slices[0].module, "masked_router", None)
    return torch.ones(units.count, dtype=torch.bool) if masked_router is None else masked_router.mask.clone()


def detach_router(units: Units) -> None:
    """Make the router of a block plain again."""
    router = units.slices[0].module
    if hasattr(router, "masked_router"):
        for handle in router.masked_router.handles:
            handle.remove()
        del router.masked_router


def _update_enabled(masked_router: MaskedRouter, incompatible_keys: object) -> None:
    masked_router.enabled = not bool(masked_router.mask.all())


def _hide_experts(router: nn.Module, args: tuple) -> None:
    shown = router.masked_router.active_mask(router)
    if shown is not None:
        router.masked_router.entered = HiddenExperts(shown)
        router.masked_router.entered.__enter__()


def _show_experts(router: nn.Module, args: tuple, output: object) -> None:
    entered, router.masked_router.entered = router.masked_router.entered, None
    if entered is not None:
        entered.__exit__(None, None, None)
