"""How much a weight, a neuron or a head matters, and which have to go."""

from typing import Literal

import torch
from torch import Tensor

Scope = Literal["layer", "global"]


def magnitude(weight: Tensor) -> Tensor:
    """``|w|`` for every entry (Han et al. 2015, arXiv 1506.02626)."""
    return weight.abs()


def unit_magnitude(parts: list[Tensor]) -> Tensor:
    """The root mean square of all numbers that belong to a unit: of parts [units, numbers], as [units].

    ``sqrt(mean_i w_i^2)``, in float32 at least. It ranks units of one size as their L2 norm does; among units of
    different sizes, as an attention and a feed-forward, it is not the biggest that always stays.
    """
    dtype, numbers = torch.promote_types(parts[0].dtype, torch.float32), sum(part.shape[1] for part in parts)
    return (torch.stack([part.to(dtype).square().sum(dim=1) for part in parts]).sum(dim=0) / numbers).sqrt()


def lowest(scores: list[Tensor], share: float, scope: Scope, at_least: int = 0) -> list[Tensor]:
    """What is kept (bool, the shape of each score) if the lowest ``share`` of all entries goes.

    ``layer`` takes ``round(share * n)`` of the n entries of each tensor, ``global`` that many of all tensors
    ranked together; ``at_least`` so many of each tensor stay. Of equal scores those that stand first go
    first.

    Raises:
        ValueError: if ``share`` is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: {share} is not between 0 and 1")
    flat = [score.flatten() for score in scores]
    if scope == "layer":
        kept = [_without_lowest(score, min(round(share * len(score)), max(0, len(score) - at_least))) for score in flat]
    else:
        safe = [_protect(score, at_least) for score in flat]
        total = sum(len(score) for score in flat)
        count = min(round(share * total), total - at_least * len(flat))
        kept = _without_lowest(torch.cat(safe), count).split([len(score) for score in flat])
    return [keep.view_as(score) for keep, score in zip(kept, scores, strict=True)]


def _without_lowest(scores: Tensor, count: int) -> Tensor:
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    # Finding one threshold is several times faster than sorting; entries that equal it are counted off.
    threshold = scores.kthvalue(count).values
    keep = scores >= threshold
    equal = (scores == threshold).nonzero().flatten()
    keep[equal[: count - int((~keep).sum())]] = False
    return keep


def _protect(scores: Tensor, at_least: int) -> Tensor:
    """The scores, with the ``at_least`` highest put out of reach."""
    if at_least == 0:
        return scores
    return scores.index_fill(0, scores.argsort(descending=True, stable=True)[:at_least], torch.inf)
