"""How much a weight, or a group of them, matters, and which have to go."""

from typing import Literal

import torch
from torch import Tensor

Scope = Literal["layer", "global", "distribution", "row"] | int


def magnitude(parts: list[Tensor]) -> Tensor:
    """The root mean square of all numbers that belong together: of parts [..., numbers], as [...].

    ``sqrt(mean_i w_i^2)``, in float32 at least (Han et al. 2015, arXiv 1506.02626, of entries). It ranks what is of one
    size as the L2 norm does; among attentions and feed-forwards it is not the biggest that always stays.
    """
    dtype, numbers = torch.promote_types(parts[0].dtype, torch.float32), sum(part.shape[-1] for part in parts)
    if numbers == 1:  # squares of small numbers would be lost
        return parts[0].squeeze(-1).abs().to(dtype)
    return (sum(part.to(dtype).square().sum(dim=-1) for part in parts) / numbers).sqrt()


def lowest(scores: list[Tensor], share: float, scope: Scope, at_least: int = 0) -> list[Tensor]:
    """What is kept (bool, the shape of each score) if the lowest ``share`` of all entries goes.

    Of n entries that compete ``round(share * n)`` go; of equal scores those that stand first go first. They compete

    - ``layer``: with those of the same tensor;
    - ``global``: with those of all tensors;
    - ``distribution``: with all, each divided by the root mean square of its tensor;
    - ``row``: with those of the same row (all axes but the last are rows);
    - a number: with the neighbours in its row, so many at a time; 4 at a share of a half is 2:4.

    ``at_least`` so many of each tensor stay, where whole tensors compete.

    Raises:
        ValueError: if ``share`` is not between 0 and 1, or a row is not a multiple of the number.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: {share} is not between 0 and 1")
    if scope == "layer":
        return [_without_lowest(s.flatten(), share, at_least).view_as(s) for s in scores]
    if scope == "distribution":
        scores = [score / score.square().mean().sqrt().clamp(min=torch.finfo(score.dtype).tiny) for score in scores]
    if scope in ("global", "distribution"):
        flat = [_protect(score.flatten(), at_least) for score in scores]
        kept = _without_lowest(torch.cat(flat), share, at_least * len(flat)).split([len(score) for score in flat])
        return [keep.view_as(score) for keep, score in zip(kept, scores, strict=True)]
    return [_without_lowest_of_each(s, share, s.shape[-1] if scope == "row" else scope) for s in scores]


def _without_lowest(scores: Tensor, share: float, at_least: int) -> Tensor:
    count = min(round(share * len(scores)), max(0, len(scores) - at_least))
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    # Finding one threshold is several times faster than sorting; entries that equal it are counted off.
    threshold = scores.kthvalue(count).values
    keep = scores >= threshold
    equal = (scores == threshold).nonzero().flatten()
    keep[equal[: count - int((~keep).sum())]] = False
    return keep


def _without_lowest_of_each(scores: Tensor, share: float, width: int) -> Tensor:
    if scores.shape[-1] % width:
        raise ValueError(f"scope: rows of {scores.shape[-1]} do not divide into groups of {width}")
    groups = scores.reshape(-1, width)
    first = groups.argsort(dim=1, stable=True)[:, : round(share * width)]
    return torch.ones_like(groups, dtype=torch.bool).scatter_(1, first, False).view_as(scores)


def _protect(scores: Tensor, at_least: int) -> Tensor:
    """The scores, with the ``at_least`` highest put out of reach."""
    if at_least == 0:
        return scores
    return scores.index_fill(0, scores.argsort(descending=True, stable=True)[:at_least], torch.inf)
