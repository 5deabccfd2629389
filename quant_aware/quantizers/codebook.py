"""A grid whose values may lie anywhere: a small table of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from quant_aware.quantizers.gradients import StraightThrough
from quant_aware.quantizers.grids import Quantizer, check_bits


@dataclass(kw_only=True)
class Codebook(Quantizer):
    """``2^bits`` entries that stand in no order and are learned; what is pruned stays 0."""

    bits: int
    """Of a code, 1 to 8."""
    has_zero: ClassVar[bool] = False
    learn: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        check_bits(self.bits, 1)

    @property
    def levels(self) -> int:
        """``2^bits``."""
        return 2**self.bits


@dataclass(kw_only=True)
class KMeans(Codebook):
    """``2^bits`` values, at first the means that are nearest to all numbers (Lloyd's algorithm), then learned.

    A number takes the nearest value, and a value has the gradients of all that took it (Han et al. 2015, arXiv
    1510.00149). Of one bit it is BS-Flexible (Cheong and Daniel 2019). What is pruned stays 0.
    """

    is_elementwise: ClassVar[bool] = True

    bits: int = 4
    """Of a code."""
    per: Literal["row", "tensor"] | int = "tensor"
    """What has a table of its own."""

    @property
    def qparams_per_group(self) -> int:
        """The values."""
        return self.levels

    def qparams(self, groups: Tensor, rounds: int = 20) -> Tensor:
        """The means in rising order, [G, 2^bits], from evenly spaced ones on; one that is nearest to none stays."""
        there = (groups != 0).float()
        low, high = groups.aminmax(dim=1, keepdim=True)
        means = low + (high - low) * (torch.arange(self.levels, device=groups.device) + 0.5) / self.levels
        for _ in range(rounds):
            codes = self.encode(groups, means)
            count = torch.zeros_like(means).scatter_add_(1, codes, there)
            total = torch.zeros_like(means).scatter_add_(1, codes, groups)
            means = torch.where(count > 0, total / count.clamp(min=1), means).sort(dim=1).values
        return means

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """The nearest value, in rising order: as many as there are borders below a number."""
        table = qparams.sort(dim=1).values
        borders = (table[:, 1:] + table[:, :-1]) / 2
        if self.bits > 6:
            return torch.searchsorted(borders, groups.contiguous())
        codes, above = torch.zeros_like(groups), torch.empty_like(groups)
        for border in borders.split(1, dim=1):  # few passes are faster than a search; in floats, they are vectorised
            codes += torch.gt(groups, border, out=above)
        return codes.long()

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """The values of the table, in rising order."""
        return qparams.sort(dim=1).values.gather(1, codes)

    def fake_quantize_learned(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """As ``fake_quantize``, with the gradients of both; what is pruned reads a 0 that stands behind the table."""
        codes = self.encode(groups.detach(), qparams.detach()).masked_fill_(self.kept_zero(groups), self.levels)
        table = F.pad(qparams.sort(dim=1).values, (0, 1))
        return StraightThrough.apply(groups, table.gather(1, codes))

    def store(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The values that occur are the table, but 0, which stands there in the place of those that do not."""
        ranked = torch.where(values == 0, torch.inf, values).sort(dim=1).values
        place = torch.cat([torch.zeros_like(ranked[:, :1]), (ranked.diff(dim=1) != 0).float()], dim=1).cumsum(dim=1)
        table = torch.full((len(values), self.levels + 1), torch.inf, device=values.device)
        table = table.scatter_(1, place.long().clamp(max=self.levels), ranked)[:, : self.levels]
        table = torch.where(table.isfinite(), table, 0.0)
        return self.encode(values, table), table
