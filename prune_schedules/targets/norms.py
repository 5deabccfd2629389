"""Norms of hidden states with masked dimensions, which are left out of the mean and the variance.

So a norm computes what it will compute when they have been cut out. Its input is prepared so that its own forward
computes the statistics of the kept dimensions: with k of n kept, ``sqrt(n / k) (x - mean)`` with zeros elsewhere has
mean 0 and the variance of the k. The factor is divided out of the output again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prune_schedules.targets.mask import Mask
from students.weights import get_weight_transforms, raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class MaskedNorm(nn.Module):
    """A child of a norm with the dimensions that the norm counts: ``mask`` (bool [hidden]), a buffer and thus saved.

    Masks on the norm's weight have priority while there are any: they may be suspended, or replaced by gates, for one
    step. After they have been folded this buffer remains.
    """

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.register_buffer("mask", torch.ones_like(raw_parameter(norm), dtype=torch.bool))
        self.register_load_state_dict_post_hook(_update_enabled)
        self.handles = [norm.register_forward_pre_hook(_mask_input), norm.register_forward_hook(_rescale_output)]
        self.enabled, self.factor = False, None

    def keep(self, mask: Tensor) -> None:
        """Set the dimensions that count (bool [hidden])."""
        self.mask.copy_(mask)
        _update_enabled(self, None)

    def active_mask(self, norm: nn.Module) -> Tensor | None:
        """Return the dimensions that count in the current forward pass (bool [hidden]); None if all do."""
        masks = [step for step in get_weight_transforms(norm) if isinstance(step, Mask)]
        if not masks:
            return self.mask if self.enabled else None
        active = [factor > 0 for factor in (mask.factor() for mask in masks) if factor is not None]
        return torch.stack(active).all(dim=0) if active else None


def attach(norm: nn.Module) -> MaskedNorm:
    """Add ``masked_norm`` to a ``LayerNorm`` or an RMS norm, if it has none, and return it."""
    if not hasattr(norm, "masked_norm"):
        norm.masked_norm = MaskedNorm(norm)
    return norm.masked_norm


def kept_dimensions(model: PreTrainedModel) -> Tensor | None:
    """Return the hidden dimensions that the norms count (bool [hidden]); None if no norm is masked."""
    return next((module.mask for module in model.modules() if isinstance(module, MaskedNorm)), None)


def detach(model: PreTrainedModel) -> None:
    """Make all norms plain again."""
    for norm in [module for module in model.modules() if isinstance(getattr(module, "masked_norm", None), MaskedNorm)]:
        for handle in norm.masked_norm.handles:
            handle.remove()
        del norm.masked_norm


def _update_enabled(masked_norm: MaskedNorm, incompatible_keys: object) -> None:
    masked_norm.enabled = not bool(masked_norm.mask.all())


def _mask_input(norm: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    active = norm.masked_norm.active_mask(norm)
    if active is None:
        return None
    states = args[0].to(torch.promote_types(args[0].dtype, torch.float32))
    mask = active.to(states.dtype)
    count = mask.sum().clamp(min=1)
    norm.masked_norm.factor = (len(mask) / count).sqrt()
    if isinstance(norm, nn.LayerNorm):
        states = states - (states * mask).sum(dim=-1, keepdim=True) / count
    return ((states * (mask * norm.masked_norm.factor)).to(args[0].dtype), *args[1:])


def _rescale_output(norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    factor, norm.masked_norm.factor = norm.masked_norm.factor, None
    if factor is None:
        return None
    bias = getattr(norm, "bias", None)
    return (output / factor if bias is None else (output - bias) / factor + bias).to(output.dtype)
