"""Grids of one magnitude: a code is a sign, or a sign and none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quant_aware.quantizers.grids import Quantizer


@dataclass(kw_only=True)
class Ternary(Quantizer):
    """``-a, 0, a``: 0 up to ``d = 0.7 mean |w|``, a the mean magnitude above (TWN: Li, Zhang, Liu 2016, 1605.04711).

    With ``learn`` the two factors are parameters, one for each sign (TTQ: Zhu et al. 2016, arXiv 1612.01064).
    """

    levels: ClassVar[int] = 3

    learn: bool = False
    """Whether the factors are learned."""

    @property
    def qparams_per_group(self) -> int:
        """A factor, or one for each sign."""
        return 1 + self.learn

    def qparams(self, groups: Tensor) -> Tensor:
        """``a``, [G, 1], or twice that, [G, 2]."""
        factor = self._factor(groups, self._signs(groups))
        return factor.repeat(1, 2) if self.learn else factor

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """0, 1 and 2 for -a, 0 and a."""
        return self._signs(groups).long() + 1

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """``-a, 0, a``."""
        if not self.learn:
            return (codes - 1) * qparams
        down, up = qparams.abs().unsqueeze(2).unbind(1)
        return (codes - 1).clamp(min=0) * up + (codes - 1).clamp(max=0) * down

    def store(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The signs, and the largest magnitude, of each sign where the factors are learned."""
        down, up = ((sign * values).amax(dim=1, keepdim=True).clamp(min=0) for sign in (-1, 1))
        return values.sign().long() + 1, torch.cat([down, up], dim=1) if self.learn else torch.maximum(down, up)

    def round(self, groups: Tensor) -> Tensor:
        """The same without codes, for training, and looks for the signs once."""
        signs = self._signs(groups)
        return signs.mul_(self._factor(groups, signs))

    def _signs(self, groups: Tensor) -> Tensor:
        """-1, 0 or 1 for each number, [G, n]."""
        # What is pruned has no part in the mean: it may leave the tensor while the student trains.
        count = torch.count_nonzero(groups, dim=1).clamp_(min=1).unsqueeze(1)
        least = 0.7 * torch.linalg.vector_norm(groups, 1, dim=1, keepdim=True) / count
        return torch.div(groups, least.clamp_(min=torch.finfo(torch.float32).tiny)).trunc_().clamp_(-1, 1)

    def _factor(self, groups: Tensor, signs: Tensor) -> Tensor:
        count = torch.count_nonzero(signs, dim=1).clamp_(min=1).unsqueeze(1)
        return (groups * signs).sum(dim=1, keepdim=True) / count


@dataclass(kw_only=True)
class Binary(Quantizer):
    """``-a, a`` with a the mean magnitude (BWN: Rastegari et al. 2016, arXiv 1603.05279); what is pruned stays 0."""

    levels: ClassVar[int] = 2
    has_zero: ClassVar[bool] = False

    def qparams(self, groups: Tensor) -> Tensor:
        """``a``, [G, 1], over what is not 0."""
        return groups.abs().sum(dim=1, keepdim=True) / (groups != 0).sum(dim=1, keepdim=True).clamp(min=1)

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """1 where a number is not negative."""
        return (groups >= 0).long()

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """``-a, a``."""
        return (2 * codes - 1) * qparams

    def store(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The signs and the magnitude, which a mean of equal numbers may miss by the last bit."""
        return self.encode(values, values), values.abs().amax(dim=1, keepdim=True)
