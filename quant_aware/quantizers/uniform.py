"""Symmetric quantizers with a scale per group: evenly spaced values, and powers of two."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quant_aware.quantizers.gradients import LearnedStep
from quant_aware.quantizers.quantizer import Quantizer, check_bits


@dataclass(kw_only=True)
class SymmetricQuantizer(Quantizer):
    """A quantizer to 0 and ``2^(bits - 1) - 1`` values on each side of it."""

    bits: int
    """The bits of a code, 2 to 8."""

    def __post_init__(self):
        super().__post_init__()
        check_bits(self.bits, 2)

    @property
    def levels(self) -> int:
        """Return ``2^bits - 1``."""
        return 2 * self._max_code + 1

    @property
    def _max_code(self) -> int:
        return 2 ** (self.bits - 1) - 1


@dataclass(kw_only=True)
class Uniform(SymmetricQuantizer):
    """Evenly spaced values on both sides of 0: ``round(w / s) s``, ``s = max |w| / q``, ``q = 2^(bits - 1) - 1``.

    Jacob et al. 2018, arXiv 1712.05877; with 8 bits it is the weight quantizer of ONNX Runtime. With ``learn`` the
    scale s is a parameter, initialized with ``2 mean |w| / sqrt(q)``; weights outside ``-q s`` to ``q s`` are clipped
    and have no gradient (LSQ: Esser et al. 2019, arXiv 1902.08153).
    """

    shorthand: ClassVar[str] = "bits"

    is_elementwise: ClassVar[bool] = True

    bits: int = 8
    """The bits of a code; 8 bits are -127 to 127."""
    learn: bool = False
    """Whether the scale is learned."""

    def qparams(self, groups: Tensor) -> Tensor:
        """Return the scale ``s``, [G, 1]; 1 where a group is (nearly) zero, as in ONNX Runtime."""
        if self.learn:
            count = (groups != 0).sum(dim=1, keepdim=True).clamp(min=1)  # pruned weights do not count in the mean
            scale = 2 * torch.linalg.vector_norm(groups, 1, dim=1, keepdim=True) / count / math.sqrt(self._max_code)
        else:
            scale = torch.linalg.vector_norm(groups, math.inf, dim=1, keepdim=True) / self._max_code
        return torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return ``round(w / s) + q``, halves to even."""
        return torch.div(groups, qparams).round_().clamp_(-self._max_code, self._max_code).long() + self._max_code

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """Return ``(codes - q) s``."""
        return (codes - self._max_code) * qparams

    def fake_quantize(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return ``round(w / s) s``, without computing codes."""
        return torch.div(groups, qparams).round_().mul_(qparams)

    def fake_quantize_learned(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return ``round(w / s) s`` for a learned scale: rounding passes gradients unchanged, clipping does not."""
        return LearnedStep.apply(groups, qparams.abs().clamp(min=torch.finfo(torch.float32).tiny), self._max_code)

    def recover_codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes with the largest scale of which all values are multiples.

        The largest code may not occur where the scale is learned, or where rows of a whole tensor were removed.
        """
        if not self.learn and self.granularity != "tensor":
            return super().recover_codes(values)
        largest = torch.linalg.vector_norm(values, math.inf, dim=1, keepdim=True)
        qparams, is_done = torch.ones_like(largest), largest == 0
        for max_code in range(1, self._max_code + 1):
            scale = torch.where(is_done, 1.0, largest / max_code)
            codes = values / scale
            is_exact = ~is_done & ((codes - codes.round()).abs().amax(dim=1, keepdim=True) < 1e-3)
            qparams, is_done = torch.where(is_exact, scale, qparams), is_done | is_exact
        return self.encode(values, qparams), qparams


@dataclass(kw_only=True)
class PowerOfTwo(SymmetricQuantizer):
    """0 and ``+-2^e``, with exponents e downwards from the largest magnitude (Ott et al. 2016, arXiv 1608.06902).

    Products with such weights are bit shifts. A magnitude is rounded to the nearer power of two, or to 0.
    """

    bits: int = 4
    """The bits of a code; 4 bits are 7 powers of each sign and 0."""

    def qparams(self, groups: Tensor) -> Tensor:
        """Return the largest power, [G, 1]; 1 where a group is zero."""
        largest = groups.abs().amax(dim=1, keepdim=True)
        return torch.where(largest > 0, _nearest_power(largest), 1.0)

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return the signed rank of the power, 1 for the smallest, plus q; 0 is coded as q."""
        magnitudes = groups.abs()
        smallest = qparams * 2.0 ** (1 - self._max_code)
        rank = torch.log2(_nearest_power(magnitudes.clamp(min=smallest, max=qparams)) / smallest).round() + 1
        return (groups.sign() * torch.where(magnitudes < smallest / 2, 0.0, rank)).long() + self._max_code

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """Return the signed powers."""
        rank = codes - self._max_code
        return rank.sign() * qparams * torch.pow(2.0, rank.abs() - self._max_code)


def _nearest_power(magnitudes: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(magnitudes)  # magnitudes = mantissa 2^exponent, mantissa from 1/2 to 1
    return torch.ldexp(torch.ones_like(magnitudes), torch.where(mantissa > 0.75, exponent, exponent - 1))
