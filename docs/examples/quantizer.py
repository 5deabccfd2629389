"""A quantizer: the values that a weight may have, and the numbers by which codes become values."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from distill import Quantizer

VALUES = torch.tensor([-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6])


@dataclass(kw_only=True)
class Float4(Quantizer):
    """The 15 values of a float of 4 bits (E2M1) between minus and plus the largest magnitude."""

    levels: ClassVar[int] = 15

    def qparams(self, groups: torch.Tensor) -> torch.Tensor:
        return groups.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 6

    def encode(self, groups: torch.Tensor, qparams: torch.Tensor) -> torch.Tensor:
        return torch.bucketize(groups / qparams, (VALUES[1:] + VALUES[:-1]) / 2)

    def decode(self, codes: torch.Tensor, qparams: torch.Tensor) -> torch.Tensor:
        return VALUES[codes] * qparams
