"""Quantizers with a learned codebook, whose entries may be any values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from quant_aware.quantizers.gradients import StraightThrough
from quant_aware.quantizers.quantizer import Quantizer, check_bits


@dataclass(kw_only=True)
class Codebook(Quantizer):
    """A learned codebook of ``2^bits`` unordered entries; pruned weights stay 0."""

    bits: int
    """The bits of a code, 1 to 8."""
    has_zero: ClassVar[bool] = False
    learn: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        check_bits(self.bits, 1)

    @property
    def levels(self) -> int:
        """Return ``2^bits``."""
        return 2**self.bits


@dataclass(kw_only=True)
class KMeans(Codebook):
    """A codebook of ``2^bits`` values, initialized by k-means over the weights (Lloyd's algorithm), then learned.

    A weight takes the nearest value, and the gradient of a value is the sum over all weights that took it (Han et al.
    2015, arXiv 1510.00149). With one bit it is BS-Flexible (Cheong and Daniel 2019). Pruned weights stay 0.
    """

    is_elementwise: ClassVar[bool] = True

    bits: int = 4
    """The bits of a code."""
    granularity: Literal["row", "tensor"] | int = "tensor"
    """The weights that share a codebook: ``row``, ``tensor``, or a number of neighbouring inputs."""

    @property
    def qparams_per_group(self) -> int:
        """Return the number of values in the codebook."""
        return self.levels

    def qparams(self, groups: Tensor, iterations: int = 20) -> Tensor:
        """Return the codebook, ascending, [G, 2^bits].

        K-means begins with evenly spaced values; a mean without weights stays where it is.
        """
        is_nonzero = (groups != 0).float()
        low, high = groups.aminmax(dim=1, keepdim=True)
        means = low + (high - low) * (torch.arange(self.levels, device=groups.device) + 0.5) / self.levels
        for _ in range(iterations):
            codes = self.encode(groups, means)
            count = torch.zeros_like(means).scatter_add_(1, codes, is_nonzero)
            total = torch.zeros_like(means).scatter_add_(1, codes, groups)
            means = torch.where(count > 0, total / count.clamp(min=1), means).sort(dim=1).values
        return means

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return the rank of the nearest value: the number of midpoints between values below a weight."""
        codebook = qparams.sort(dim=1).values
        midpoints = (codebook[:, 1:] + codebook[:, :-1]) / 2
        if self.bits > 6:
            return torch.searchsorted(midpoints, groups.contiguous())
        codes, is_above = torch.zeros_like(groups), torch.empty_like(groups)
        # A few passes over all weights are faster than a search; in floats they are vectorized.
        for midpoint in midpoints.split(1, dim=1):
            codes += torch.gt(groups, midpoint, out=is_above)
        return codes.long()

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """Return the values of the ascending codebook."""
        return qparams.sort(dim=1).values.gather(1, codes)

    def fake_quantize_learned(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return ``fake_quantize`` with gradients for weights and codebook; pruned weights read a 0 appended to it."""
        codes = self.encode(groups.detach(), qparams.detach()).masked_fill_(self.zero_mask(groups), self.levels)
        codebook = F.pad(qparams.sort(dim=1).values, (0, 1))
        return StraightThrough.apply(groups, codebook.gather(1, codes))

    def recover_codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes for the codebook of all nonzero values that occur; unused entries are 0."""
        ranked = torch.where(values == 0, torch.inf, values).sort(dim=1).values
        rank = torch.cat([torch.zeros_like(ranked[:, :1]), (ranked.diff(dim=1) != 0).float()], dim=1).cumsum(dim=1)
        codebook = torch.full((len(values), self.levels + 1), torch.inf, device=values.device)
        codebook = codebook.scatter_(1, rank.long().clamp(max=self.levels), ranked)[:, : self.levels]
        codebook = torch.where(codebook.isfinite(), codebook, 0.0)
        return self.encode(values, codebook), codebook
