"""Pruning that changes the weights which stay, so that the outputs of a layer change least."""

import torch
from torch import Tensor

from prune_schedules.ranking import lowest
from prune_schedules.scores.inputs import ActivationScored
from students.recording.input_grams import inverse_cholesky
from students.weights import full_parameter, out_axis, raw_parameter, shard_like


def remove(weight: Tensor, gram: Tensor, share: float, scope: str | int, width: int = 128) -> tuple[Tensor, Tensor]:
    """``weight`` [out, in] without the lowest ``share``, the others changed so that the outputs change least.

    Column by column ``e_j = (w_j - mask_j w_j) / c_jj`` is pushed to the later ones, ``W_k -= e_j c_jk``, c the upper
    Cholesky factor of ``(X'X + 1 % of its mean diagonal)^-1``; the mask is the lowest ``w^2 / c_jj^2`` of ``width``
    columns at a time, each group as those before it have changed it (SparseGPT: Frantar and Alistarh 2023, arXiv
    2301.00774; OBS: Hassibi and Stork 1993).

    Args:
        weight: float, [out, in].
        gram: ``X'X`` of the inputs, [in, in].
        share: of the entries.
        scope: as in ``lowest``, of the columns that are looked at together.
        width: how many these are, where ``scope`` is no number itself.

    Returns:
        The new weight, zero where it is removed, and what is kept (bool, [out, in]).
    """
    weight, dtype = weight.to(torch.float64, copy=True), weight.dtype
    factor, width = inverse_cholesky(gram), scope if isinstance(scope, int) else width
    kept = torch.ones_like(weight, dtype=torch.bool)
    for start in range(0, weight.shape[1], width):
        stop = min(start + width, weight.shape[1])
        (keep,) = lowest([(weight[:, start:stop] / factor.diagonal()[start:stop]).square()], share, scope)
        kept[:, start:stop] = keep
        for j in range(start, stop):
            error = torch.where(kept[:, j], 0.0, weight[:, j] / factor[j, j])
            weight[:, j:] -= error.unsqueeze(1) * factor[j, j:]
    return (weight * kept).to(dtype), kept


class SparseGPT(ActivationScored):
    """Removes weights and changes the others so that the outputs change least (Frantar, Alistarh 2023, 2301.00774).

    For one moment of the run, as in ``{kind: Steps, at: {10%: 0.5}}``; training goes on from the changed weights.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.shape != "elements":
            raise ValueError("shape: SparseGPT removes elements")
        if self.scope in ("global", "distribution"):
            raise ValueError(f"scope: SparseGPT solves one layer at a time, which {self.scope} is not")

    def collect(self, inputs: Tensor) -> Tensor:
        """``X'X``, [in, in]."""
        return inputs.T @ inputs

    def renew(self, share: float) -> None:
        """Remove this share, and change the weights that stay."""
        for part in self.parts:
            reader, axis = part.module, out_axis(part.module)
            weight = (full_parameter(reader) * part.mask.mask).movedim(axis, 0)
            changed, kept = remove(weight, self.of(reader), share, self.scope)
            raw_parameter(reader).copy_(shard_like(changed.movedim(0, axis), raw_parameter(reader)))
            part.keep(kept)
        self.seen = {}
