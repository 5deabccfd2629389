"""A quantizer: the values of a weight, and the parameters that turn codes into values."""

from dataclasses import dataclass

import torch

from distill import Quantizer


@dataclass(kw_only=True)
class Float4(Quantizer):
    """The 15 values of a float of 4 bits (E2M1) between minus and plus the largest magnitude."""

    levels = 15
    values = torch.tensor([-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6])

    def qparams(self, groups: torch.Tensor) -> torch.Tensor:
        return groups.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 6

    def encode(self, groups: torch.Tensor, qparams: torch.Tensor) -> torch.Tensor:
        return torch.bucketize(groups / qparams, (self.values[1:] + self.values[:-1]).to(groups.device) / 2)

    def decode(self, codes: torch.Tensor, qparams: torch.Tensor) -> torch.Tensor:
        return self.values.to(codes.device)[codes] * qparams
