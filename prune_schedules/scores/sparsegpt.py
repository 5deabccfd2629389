"""SparseGPT: pruning that updates the remaining weights, so that the outputs of a layer change least."""

import torch
from torch import Tensor

from prune_schedules.ranking import keep_highest
from prune_schedules.scores.inputs import ActivationScored
from students.recording.input_grams import inverse_cholesky
from students.weights import full_parameter, out_axis, raw_parameter, shard_like


def sparsegpt(
    weight: Tensor, gram: Tensor, sparsity: float, scope: str | int, block_size: int = 128
) -> tuple[Tensor, Tensor]:
    """Prune ``weight`` [out, in], and update the other entries so that the outputs change least.

    Column by column ``e_j = (w_j - mask_j w_j) / c_jj`` is pushed to the later ones, ``W_k -= e_j c_jk``, c the upper
    Cholesky factor of ``(X'X + 1 % of its mean diagonal)^-1``; the mask removes the lowest ``w^2 / c_jj^2`` of
    ``block_size`` columns at a time, after the updates by earlier blocks (SparseGPT: Frantar and Alistarh 2023, arXiv
    2301.00774; OBS: Hassibi and Stork 1993).

    Args:
        weight: float, [out, in].
        gram: ``X'X`` of the inputs, [in, in].
        sparsity: the ratio of entries to remove.
        scope: as in ``keep_highest``, within a block of columns.
        block_size: the columns of a block, unless ``scope`` is a group size, which replaces it.

    Returns:
        The new weight, zero where it is removed, and the kept entries (bool, [out, in]).
    """
    weight, dtype = weight.to(torch.float64, copy=True), weight.dtype
    factor, block_size = inverse_cholesky(gram), scope if isinstance(scope, int) else block_size
    kept = torch.ones_like(weight, dtype=torch.bool)
    for start in range(0, weight.shape[1], block_size):
        stop = min(start + block_size, weight.shape[1])
        scores = (weight[:, start:stop] / factor.diagonal()[start:stop]).square()
        (kept[:, start:stop],) = keep_highest([scores], sparsity, scope)
        for j in range(start, stop):
            error = torch.where(kept[:, j], 0.0, weight[:, j] / factor[j, j])
            weight[:, j:] -= error.unsqueeze(1) * factor[j, j:]
    return (weight * kept).to(dtype), kept


class SparseGPT(ActivationScored):
    """Removes weights and updates the others so that the outputs change least (Frantar, Alistarh 2023, 2301.00774).

    For one time point of the run, as in ``{kind: Steps, at: {10%: 0.5}}``; training goes on from the updated weights.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.shape != "elements":
            raise ValueError("shape: SparseGPT removes elements only; leave it out")
        if self.scope in ("global", "distribution"):
            raise ValueError(f"scope: SparseGPT prunes layer by layer; write layer, row or a number, not {self.scope}")

    def collect(self, inputs: Tensor) -> Tensor:
        """Return ``X'X``, [in, in]."""
        return inputs.T @ inputs

    def update_masks(self, sparsity: float) -> None:
        """Mask weights, and update the others."""
        for target in self.targets:
            reader, axis = target.module, out_axis(target.module)
            weight = (full_parameter(reader) * target.mask.mask).movedim(axis, 0)
            updated, kept = sparsegpt(weight, self.statistics_of(reader), sparsity, self.scope)
            raw_parameter(reader).copy_(shard_like(updated.movedim(0, axis), raw_parameter(reader)))
            target.keep(kept)
        self.statistics = {}
