"""Pieces of rows instead of single numbers: a table of words in a few bytes for each word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quant_aware.quantizers.codebook import Codebook

AT_ONCE = 2**24
"""Distances that are held in memory at a time."""


@dataclass(kw_only=True)
class Product(Codebook):
    """Product quantization: each piece of ``per`` neighbouring numbers is one of ``2^bits``, of each place in a row its
    own, at first by k-means, then learned (Gong et al. 2014, arXiv 1412.6115; of embeddings Suzuki and Nagata 2016).

    A code stands for a whole piece: 8 bits for 4 numbers are 2 bits for each. Zeros are kept where whole pieces are,
    as in the row of a padding token.
    """

    in_pieces: ClassVar[bool] = True
    groups_inputs: ClassVar[bool] = False

    bits: int = 8
    """Of the code of a piece."""
    per: int = 4
    """Numbers in a piece."""

    @property
    def rate(self) -> float:
        """That share of a code's bits."""
        return self.bits / self.per

    @property
    def qparams_per_group(self) -> int:
        """Those of all pieces."""
        return self.levels * self.per

    def divide(self, weight: Tensor, axis: int = 0) -> Tensor:
        """Of each place in a row the pieces of all rows, [places, rows * per]."""
        rows = weight.movedim(axis, 0).flatten(1).float()
        if rows.shape[1] % self.per:
            raise ValueError(f"per: {rows.shape[1]} inputs do not divide into pieces of {self.per}")
        return rows.unflatten(1, (-1, self.per)).transpose(0, 1).flatten(1)

    def join(self, groups: Tensor, like: Tensor, axis: int = 0) -> Tensor:
        """The pieces as a weight of the shape and type of ``like`` again."""
        return super().join(self._pieces(groups).transpose(0, 1), like, axis)

    def qparams(self, groups: Tensor, rounds: int = 10) -> Tensor:
        """The pieces that are means of those nearest to them (Lloyd's algorithm), [places, 2^bits * per], from those of
        evenly spaced rows on; one that is nearest to none stays.
        """
        pieces = self._pieces(groups)
        places = torch.linspace(0, pieces.shape[1] - 1, self.levels, device=groups.device).long()
        table, there = pieces[:, places].clone(), pieces.any(dim=2, keepdim=True).float()
        for _ in range(rounds):
            codes = self.encode(groups, table.flatten(1)).unsqueeze(2)
            count = torch.zeros_like(table[..., :1]).scatter_add_(1, codes, there)
            total = torch.zeros_like(table).scatter_add_(1, codes.expand_as(pieces), pieces)
            table = torch.where(count > 0, total / count.clamp(min=1), table)
        return table.flatten(1)

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """The nearest pieces, [places, rows]."""
        pieces, table = self._pieces(groups), self._pieces(qparams)
        parts = max(1, AT_ONCE // (pieces.shape[1] * self.levels))
        found = [
            torch.baddbmm(ours.square().sum(2).unsqueeze(1), theirs, ours.mT, alpha=-2).argmin(2)
            for theirs, ours in zip(pieces.split(parts), table.split(parts), strict=True)
        ]
        return torch.cat(found)

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """The pieces."""
        table = self._pieces(qparams)
        return table.gather(1, codes.unsqueeze(2).expand(-1, -1, self.per)).flatten(1)

    def store(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The pieces that occur are the table, but those of zeros, which stand there where there are fewer.

        Raises:
            ValueError: if there are more, as where single numbers of a piece are zero.
        """
        found = torch.zeros(len(values), self.levels, self.per)
        for place, pieces in zip(found, self._pieces(values), strict=True):
            different = pieces[pieces.any(dim=1)].unique(dim=0)
            if len(different) > self.levels:
                raise ValueError(f"per: {len(different)} different pieces, and codes of {self.bits} bits")
            place[: len(different)] = different
        return self.encode(values, found.flatten(1)), found.flatten(1)

    def kept_zero(self, groups: Tensor) -> Tensor:
        """Those of pieces that are 0 as a whole."""
        pieces = self._pieces(groups)
        return (pieces == 0).all(dim=2, keepdim=True).expand_as(pieces).flatten(1)

    def codes_of(self, groups: Tensor) -> tuple[int, ...]:
        """[places, rows]: one code for a piece."""
        return len(groups), groups.shape[1] // self.per

    def _pieces(self, groups: Tensor) -> Tensor:
        return groups.unflatten(1, (-1, self.per))
