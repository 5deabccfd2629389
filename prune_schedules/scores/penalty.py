"""The group lasso: what is removed anyway is drawn to zero while it is still there."""

import torch
from torch import Tensor


def group_lasso(groups: list[list[Tensor]]) -> Tensor:
    """``sum_g sqrt(n_g) |w_g|_2`` over all groups of n_g numbers (Yuan and Lin 2006); L1 where a group is one number.

    Args:
        groups: of each weight or block the tensors [..., numbers]; what belongs together has one place in all of them.
    """
    total = torch.zeros((), device=groups[0][0].device)
    for parts in groups:
        together = torch.cat([part.float() for part in parts], dim=-1) if len(parts) > 1 else parts[0].float()
        # Unlike the root of a sum of squares this has a gradient at zero: zero.
        total = total + together.shape[-1] ** 0.5 * torch.linalg.vector_norm(together, dim=-1).sum()
    return total
