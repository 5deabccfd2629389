"""Norms of hidden states some of whose dimensions are masked: these have no part in the mean and the variance.

So a norm computes what it will when they have been cut out. What it is given is prepared so that its own forward finds
the statistics of what is kept: of k among n dimensions, ``sqrt(n / k) (x - mean)`` with zeros elsewhere has mean 0 and
the variance of the k; of what comes out the factor is taken again.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class Kept(nn.Module):
    """The dimensions that a norm, whose child this is, counts: ``mask`` (bool [hidden]), a buffer and thus saved.

    While it names all of them the norm is left alone.
    """

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.register_buffer("mask", torch.ones_like(norm.weight, dtype=torch.bool))
        self.register_load_state_dict_post_hook(_count)
        self.handles = [norm.register_forward_pre_hook(_prepare), norm.register_forward_hook(_restore)]
        _count(self, None)

    def keep(self, mask: Tensor) -> None:
        """Count from now on these dimensions (bool [hidden])."""
        self.mask.copy_(mask)
        _count(self, None)


def listen(norm: nn.Module) -> Kept:
    """Let a norm, a ``LayerNorm`` or one of root mean squares, count what its child ``kept`` says from now on."""
    if not hasattr(norm, "kept"):
        norm.kept = Kept(norm)
    return norm.kept


def kept(model: PreTrainedModel) -> Tensor | None:
    """The hidden dimensions that the norms count (bool [hidden]), if any norm has been told."""
    return next((module.mask for module in model.modules() if isinstance(module, Kept)), None)


def release(model: PreTrainedModel) -> None:
    """Make all norms plain again."""
    for norm in [module for module in model.modules() if isinstance(getattr(module, "kept", None), Kept)]:
        for handle in norm.kept.handles:
            handle.remove()
        del norm.kept


def _count(counted: Kept, missing: object) -> None:
    counted.left = int(counted.mask.sum())
    counted.factor = (len(counted.mask) / max(counted.left, 1)) ** 0.5


def _prepare(norm: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    counted = norm.kept
    if counted.factor == 1:
        return None
    states = args[0].to(torch.promote_types(args[0].dtype, torch.float32))
    mask = counted.mask.to(states.dtype)
    if isinstance(norm, nn.LayerNorm):
        states = states - (states * mask).sum(dim=-1, keepdim=True) / counted.left
    return ((states * (mask * counted.factor)).to(args[0].dtype), *args[1:])


def _restore(norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    counted = norm.kept
    if counted.factor == 1:
        return None
    if getattr(norm, "bias", None) is None:
        return output / counted.factor
    bias = norm.bias
    return ((output - bias) / counted.factor + bias).to(output.dtype)
