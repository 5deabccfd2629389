"""Product quantization: one code for several neighbouring weights, as for embeddings in a few bytes per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quant_aware.quantizers.codebook import Codebook

MAX_DISTANCES = 2**24
"""The number of distances that are held in memory at a time."""


@dataclass(kw_only=True)
class Product(Codebook):
    """Product quantization: a row is cut into subvectors, and each is one of ``2^bits`` entries of a codebook.

    Each position of a subvector in the row has its own codebook, initialized by k-means and then learned (Gong et al.
    2014, arXiv 1412.6115; of embeddings Suzuki and Nagata 2016). 8 bits for subvectors of 4 weights are 2 bits per
    weight. Zeros are kept where whole subvectors are zero, as in the row of a padding token.
    """

    is_vector_quantizer: ClassVar[bool] = True
    groups_inputs: ClassVar[bool] = False
    granularity: ClassVar[str] = "tensor"

    bits: int = 8
    """The bits of the code of a subvector."""
    subvector_size: int = 4
    """The number of neighbouring weights that have one code."""

    def __post_init__(self):
        super().__post_init__()
        if self.subvector_size < 2:
            raise ValueError(f"subvector_size: must be at least 2, not {self.subvector_size}")

    @property
    def bits_per_weight(self) -> float:
        """Return ``bits / subvector_size``."""
        return self.bits / self.subvector_size

    @property
    def qparams_per_group(self) -> int:
        """Return the number of values in the codebook of a position."""
        return self.levels * self.subvector_size

    def to_groups(self, weight: Tensor, axis: int = 0) -> Tensor:
        """Return for each position in a row the subvectors of all rows, [positions, rows * subvector_size].

        Raises:
            ValueError: if the number of inputs is not a multiple of ``subvector_size``.
        """
        rows = weight.movedim(axis, 0).flatten(1).float()
        if rows.shape[1] % self.subvector_size:
            raise ValueError(
                f"subvector_size: {rows.shape[1]} inputs do not divide into subvectors of {self.subvector_size}"
            )
        return rows.unflatten(1, (-1, self.subvector_size)).transpose(0, 1).flatten(1)

    def from_groups(self, groups: Tensor, like: Tensor, axis: int = 0) -> Tensor:
        """Return groups as a weight of the shape and dtype of ``like``; the inverse of ``to_groups``."""
        return super().from_groups(self._subvectors(groups).transpose(0, 1), like, axis)

    def qparams(self, groups: Tensor, iterations: int = 10) -> Tensor:
        """Return the codebooks [positions, 2^bits * subvector_size], by k-means (Lloyd's algorithm).

        K-means begins with the subvectors of evenly spaced rows; a mean without subvectors stays where it is.
        """
        subvectors = self._subvectors(groups)
        rows = torch.linspace(0, subvectors.shape[1] - 1, self.levels, device=groups.device).long()
        codebook, is_nonzero = subvectors[:, rows].clone(), subvectors.any(dim=2, keepdim=True).float()
        for _ in range(iterations):
            codes = self.encode(groups, codebook.flatten(1)).unsqueeze(2)
            count = torch.zeros_like(codebook[..., :1]).scatter_add_(1, codes, is_nonzero)
            total = torch.zeros_like(codebook).scatter_add_(1, codes.expand_as(subvectors), subvectors)
            codebook = torch.where(count > 0, total / count.clamp(min=1), codebook)
        return codebook.flatten(1)

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return the index of the nearest entry, [positions, rows]."""
        subvectors, codebook = self._subvectors(groups), self._subvectors(qparams)
        chunk = max(1, MAX_DISTANCES // (subvectors.shape[1] * self.levels))
        codes = [
            torch.baddbmm(entries.square().sum(2).unsqueeze(1), vectors, entries.mT, alpha=-2).argmin(2)
            for vectors, entries in zip(subvectors.split(chunk), codebook.split(chunk), strict=True)
        ]
        return torch.cat(codes)

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """Return the subvectors of codes, [positions, rows * subvector_size]."""
        codebook = self._subvectors(qparams)
        return codebook.gather(1, codes.unsqueeze(2).expand(-1, -1, self.subvector_size)).flatten(1)

    def recover_codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes for the codebooks of all nonzero subvectors that occur; unused entries are 0.

        Raises:
            ValueError: if more occur than a codebook holds, as where single weights of a subvector are pruned.
        """
        codebooks = torch.zeros(len(values), self.levels, self.subvector_size)
        for codebook, subvectors in zip(codebooks, self._subvectors(values), strict=True):
            entries = subvectors[subvectors.any(dim=1)].unique(dim=0)
            if len(entries) > self.levels:
                raise ValueError(
                    f"subvector_size: {len(entries)} different subvectors do not fit into codes of {self.bits} bits"
                )
            codebook[: len(entries)] = entries
        return self.encode(values, codebooks.flatten(1)), codebooks.flatten(1)

    def zero_mask(self, groups: Tensor) -> Tensor:
        """Return the weights of subvectors that are zero as a whole."""
        subvectors = self._subvectors(groups)
        return (subvectors == 0).all(dim=2, keepdim=True).expand_as(subvectors).flatten(1)

    def codes_shape(self, groups: Tensor) -> tuple[int, ...]:
        """Return [positions, rows]."""
        return len(groups), groups.shape[1] // self.subvector_size

    def _subvectors(self, groups: Tensor) -> Tensor:
        return groups.unflatten(1, (-1, self.subvector_size))
