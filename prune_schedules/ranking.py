"""The ranking of scores: magnitudes of weights and groups, and which items stay at a sparsity."""

from typing import Literal

import torch
from torch import Tensor

Scope = Literal["layer", "global", "distribution", "row"] | int


def magnitude(tensors: list[Tensor]) -> Tensor:
    """Return the root mean square over all entries of each item, in float32 at least.

    ``sqrt(mean_i w_i^2)`` (Han et al. 2015, arXiv 1506.02626, for single entries). Among items of equal size it ranks
    as the L2 norm does; among attentions and feed-forwards it does not always favour the largest.

    Args:
        tensors: the entries of the items, [..., entries] each.
    """
    dtype, entries = torch.promote_types(tensors[0].dtype, torch.float32), sum(t.shape[-1] for t in tensors)
    if entries == 1:  # squares of small numbers would be lost
        return tensors[0].squeeze(-1).abs().to(dtype)
    return (sum(tensor.to(dtype).square().sum(dim=-1) for tensor in tensors) / entries).sqrt()


def keep_highest(scores: list[Tensor], sparsity: float, scope: Scope, min_kept: int = 0) -> list[Tensor]:
    """Return which items are kept (bool, the shape of each score) if those with the lowest scores are removed.

    Of n items that compete ``round(sparsity * n)`` are removed; of equal scores the first in order. They compete

    - ``layer``: with those of the same tensor;
    - ``global``: with those of all tensors;
    - ``distribution``: with all, each divided by the root mean square of its tensor;
    - ``row``: with those of the same row (all axes but the last are rows);
    - a number: in groups of so many neighbours of a row; 4 at a sparsity of 0.5 is 2:4.

    Args:
        scores: of the items, a tensor for each target.
        sparsity: the ratio of items to remove.
        scope: which items compete.
        min_kept: the items of each tensor that always stay, with the scopes of whole tensors.

    Raises:
        ValueError: if the sparsity is not between 0 and 1, or a row is not a multiple of the group size.
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity: must be between 0 and 1, not {sparsity}")
    if scope == "layer":
        return [_keep_highest(s.flatten(), sparsity, min_kept).view_as(s) for s in scores]
    if scope == "distribution":
        scores = [score / score.square().mean().sqrt().clamp(min=torch.finfo(score.dtype).tiny) for score in scores]
    if scope in ("global", "distribution"):
        flat = [_protect_highest(score.flatten(), min_kept) for score in scores]
        kept = _keep_highest(torch.cat(flat), sparsity, min_kept * len(flat)).split([len(score) for score in flat])
        return [keep.view_as(score) for keep, score in zip(kept, scores, strict=True)]
    return [_keep_highest_per_group(s, sparsity, s.shape[-1] if scope == "row" else scope) for s in scores]


def _keep_highest(scores: Tensor, sparsity: float, min_kept: int) -> Tensor:
    count = min(round(sparsity * len(scores)), max(0, len(scores) - min_kept))
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    # Finding one threshold is several times faster than sorting; items that equal it are counted off.
    threshold = scores.kthvalue(count).values
    keep = scores >= threshold
    equal = (scores == threshold).nonzero().flatten()
    keep[equal[: count - int((~keep).sum())]] = False
    return keep


def _keep_highest_per_group(scores: Tensor, sparsity: float, group_size: int) -> Tensor:
    if scores.shape[-1] % group_size:
        raise ValueError(f"scope: rows of {scores.shape[-1]} do not divide into groups of {group_size}")
    groups = scores.reshape(-1, group_size)
    removed = groups.argsort(dim=1, stable=True)[:, : round(sparsity * group_size)]
    return torch.ones_like(groups, dtype=torch.bool).scatter_(1, removed, False).view_as(scores)


def _protect_highest(scores: Tensor, min_kept: int) -> Tensor:
    """Return the scores with the ``min_kept`` highest set to infinity."""
    if min_kept == 0:
        return scores
    return scores.index_fill(0, scores.argsort(descending=True, stable=True)[:min_kept], torch.inf)
