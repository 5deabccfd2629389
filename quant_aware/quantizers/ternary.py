"""Ternary and binary quantizers: a sign, and one magnitude per group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quant_aware.quantizers.quantizer import Quantizer


@dataclass(kw_only=True)
class Ternary(Quantizer):
    """``-a, 0, a``: 0 up to ``d = 0.7 mean |w|``, a the mean magnitude above (TWN: Li, Zhang, Liu 2016, 1605.04711).

    With ``learn`` there are two scales, one for each sign, and both are parameters (TTQ: Zhu et al. 2016, arXiv
    1612.01064).
    """

    levels: ClassVar[int] = 3

    learn: bool = False
    """Whether the scales are learned."""

    @property
    def qparams_per_group(self) -> int:
        """Return 1, or 2 where there is a scale for each sign."""
        return 1 + self.learn

    def qparams(self, groups: Tensor) -> Tensor:
        """Return ``a``, [G, 1], or ``a`` twice, [G, 2]."""
        scale = self._scale(groups, self._signs(groups))
        return scale.repeat(1, 2) if self.learn else scale

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return 0, 1 and 2 for -a, 0 and a."""
        return self._signs(groups).long() + 1

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """Return ``-a, 0, a``."""
        if not self.learn:
            return (codes - 1) * qparams
        negative, positive = qparams.abs().unsqueeze(2).unbind(1)
        return (codes - 1).clamp(min=0) * positive + (codes - 1).clamp(max=0) * negative

    def recover_codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs, and the largest magnitude, of each sign where the scales are learned."""
        negative, positive = ((sign * values).amax(dim=1, keepdim=True).clamp(min=0) for sign in (-1, 1))
        scales = torch.cat([negative, positive], dim=1) if self.learn else torch.maximum(negative, positive)
        return values.sign().long() + 1, scales

    def fake_quantize_dynamic(self, groups: Tensor) -> Tensor:
        """Return the quantized values without computing codes, and the signs only once."""
        signs = self._signs(groups)
        return signs.mul_(self._scale(groups, signs))

    def _signs(self, groups: Tensor) -> Tensor:
        """Return -1, 0 or 1 for each weight, [G, n]."""
        # Pruned weights do not count in the mean: they may be cut out while the student trains.
        count = torch.count_nonzero(groups, dim=1).clamp_(min=1).unsqueeze(1)
        threshold = 0.7 * torch.linalg.vector_norm(groups, 1, dim=1, keepdim=True) / count
        return torch.div(groups, threshold.clamp_(min=torch.finfo(torch.float32).tiny)).trunc_().clamp_(-1, 1)

    def _scale(self, groups: Tensor, signs: Tensor) -> Tensor:
        count = torch.count_nonzero(signs, dim=1).clamp_(min=1).unsqueeze(1)
        return (groups * signs).sum(dim=1, keepdim=True) / count


@dataclass(kw_only=True)
class Binary(Quantizer):
    """``-a, a`` with a the mean magnitude (BWN: Rastegari et al. 2016, arXiv 1603.05279); pruned weights stay 0."""

    levels: ClassVar[int] = 2
    has_zero: ClassVar[bool] = False

    def qparams(self, groups: Tensor) -> Tensor:
        """Return ``a``, [G, 1], the mean over the nonzero weights."""
        return groups.abs().sum(dim=1, keepdim=True) / (groups != 0).sum(dim=1, keepdim=True).clamp(min=1)

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return 1 where a weight is not negative."""
        return (groups >= 0).long()

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """Return ``-a, a``."""
        return (2 * codes - 1) * qparams

    def recover_codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and the magnitude; a mean of equal values may differ from it in the last bit."""
        return self.encode(values, values), values.abs().amax(dim=1, keepdim=True)
