"""The group lasso: a penalty that moves the items of a pruner towards zero before they are removed."""

import torch
from torch import Tensor


def group_lasso(groups: list[list[Tensor]]) -> Tensor:
    """Return ``sum_g sqrt(n_g) |w_g|_2`` over all groups of n_g entries (Yuan and Lin 2006); L1 if each is one entry.

    Args:
        groups: for each target its tensors [..., entries]; a group is one index in all tensors of a target.
    """
    total = torch.zeros((), device=groups[0][0].device)
    for tensors in groups:
        entries = torch.cat([t.float() for t in tensors], dim=-1) if len(tensors) > 1 else tensors[0].float()
        # Unlike the root of a sum of squares this has a gradient at zero: zero.
        total = total + entries.shape[-1] ** 0.5 * torch.linalg.vector_norm(entries, dim=-1).sum()
    return total
