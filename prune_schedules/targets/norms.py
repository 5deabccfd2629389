"""Norms of hidden states some of whose dimensions are masked: these have no part in the mean and the variance.

So a norm computes what it will when they have been cut out. What it is given is prepared so that its own forward finds
the statistics of what is kept: of k among n dimensions, ``sqrt(n / k) (x - mean)`` with zeros elsewhere has mean 0 and
the variance of the k; of what comes out the factor is taken again.
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
    """The dimensions that a norm, whose child this is, counts: ``mask`` (bool [hidden]), a buffer and thus saved.

    The masks on the norm's weight say so too, and have the word where there are any: they may be lifted, or something
    left out, for one step. When they have been folded away this is what is left.
    """

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.register_buffer("mask", torch.ones_like(raw_parameter(norm), dtype=torch.bool))
        self.register_load_state_dict_post_hook(_switch)
        self.handles = [norm.register_forward_pre_hook(_prepare), norm.register_forward_hook(_restore)]
        self.enabled, self.factor = False, None

    def keep(self, mask: Tensor) -> None:
        """Count from now on these dimensions (bool [hidden])."""
        self.mask.copy_(mask)
        _switch(self, None)

    def counted(self, norm: nn.Module) -> Tensor | None:
        """What the norm counts in this very pass (bool [hidden]), if not everything."""
        masks = [step for step in get_weight_transforms(norm) if isinstance(step, Mask)]
        if not masks:
            return self.mask if self.enabled else None
        standing = [factor > 0 for factor in (mask.applied() for mask in masks) if factor is not None]
        return torch.stack(standing).all(dim=0) if standing else None


def attach(norm: nn.Module) -> MaskedNorm:
    """Let a norm, a ``LayerNorm`` or one of root mean squares, count what its child ``kept`` says from now on."""
    if not hasattr(norm, "kept"):
        norm.kept = MaskedNorm(norm)
    return norm.kept


def kept(model: PreTrainedModel) -> Tensor | None:
    """The hidden dimensions that the norms count (bool [hidden]), if any norm has been told."""
    return next((module.mask for module in model.modules() if isinstance(module, MaskedNorm)), None)


def release(model: PreTrainedModel) -> None:
    """Make all norms plain again."""
    for norm in [module for module in model.modules() if isinstance(getattr(module, "kept", None), MaskedNorm)]:
        for handle in norm.kept.handles:
            handle.remove()
        del norm.kept


def _switch(counted: MaskedNorm, missing: object) -> None:
    counted.enabled = not bool(counted.mask.all())


def _prepare(norm: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    counted = norm.kept.counted(norm)
    if counted is None:
        return None
    states = args[0].to(torch.promote_types(args[0].dtype, torch.float32))
    mask = counted.to(states.dtype)
    left = mask.sum().clamp(min=1)
    norm.kept.factor = (len(mask) / left).sqrt()
    if isinstance(norm, nn.LayerNorm):
        states = states - (states * mask).sum(dim=-1, keepdim=True) / left
    return ((states * (mask * norm.kept.factor)).to(args[0].dtype), *args[1:])


def _restore(norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    factor, norm.kept.factor = norm.kept.factor, None
    if factor is None:
        return None
    bias = getattr(norm, "bias", None)
    return (output / factor if bias is None else (output - bias) / factor + bias).to(output.dtype)
