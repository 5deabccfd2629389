"""Grids: the few values that the numbers of a weight may have.

A weight is divided into groups [G, n], each with a few numbers of its own, ``fit`` [G, k], by which codes (0 and up)
become values. What is saved of a weight is codes and fit; what it is trained with are the values that they make.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor


@dataclass(kw_only=True)
class Grid(ABC):
    """The values that a weight may have."""

    per: Literal["row", "tensor"] | int = "row"
    """What has a fit of its own: what leads to one output (of an embedding, a token), the whole weight, or so many
    neighbouring inputs."""
    whole: ClassVar[bool] = True
    """Whether 0 is always among the values, so that what is pruned stays so."""

    def __post_init__(self):
        if isinstance(self.per, int) and self.per < 2:
            raise ValueError(f"per: must be row, tensor or a number above 1, not {self.per}")

    @property
    @abstractmethod
    def levels(self) -> int:
        """How many values a group may have."""

    @property
    def width(self) -> int:
        """The bits of a code."""
        return (self.levels - 1).bit_length()

    @abstractmethod
    def fit(self, groups: Tensor) -> Tensor:
        """The numbers [G, k] for groups [G, n], float32."""

    @abstractmethod
    def encode(self, groups: Tensor, fit: Tensor) -> Tensor:
        """The codes [G, n], long: of each number that of the value that takes its place."""

    @abstractmethod
    def decode(self, codes: Tensor, fit: Tensor) -> Tensor:
        """The values [G, n] of codes, float32; differentiable by ``fit``."""

    def snap(self, groups: Tensor, fit: Tensor) -> Tensor:
        """The values that take the place of the numbers, [G, n]; a 0 stays one."""
        values = self.decode(self.encode(groups, fit), fit)
        return values if self.whole else torch.where(groups == 0, 0.0, values)

    def divide(self, weight: Tensor, axis: int = 0) -> Tensor:
        """The groups [G, n] of a weight whose outputs lie along ``axis``, float32.

        Raises:
            ValueError: if the inputs are no multiple of a group.
        """
        rows = weight.movedim(axis, 0).flatten(1).float()
        if self.per == "row":
            return rows
        if self.per == "tensor":
            return rows.reshape(1, -1)
        if rows.shape[1] % self.per:
            raise ValueError(f"per: {rows.shape[1]} inputs do not divide into groups of {self.per}")
        return rows.reshape(-1, self.per)

    def join(self, groups: Tensor, like: Tensor, axis: int = 0) -> Tensor:
        """The groups as a weight of the shape and type of ``like`` again."""
        return groups.reshape(like.movedim(axis, 0).shape).movedim(0, axis).to(like.dtype)


@dataclass(kw_only=True)
class Signed(Grid):
    """0, and as many values on each side of it as fit into codes of so many bits, 2 to 8."""

    bits: int
    """Of a code."""

    def __post_init__(self):
        super().__post_init__()
        check_bits(self.bits, 2)

    @property
    def levels(self) -> int:
        """``2^bits - 1``."""
        return 2 * self._top + 1

    @property
    def _top(self) -> int:
        return 2 ** (self.bits - 1) - 1


@dataclass(kw_only=True)
class Uniform(Signed):
    """Evenly spaced values on both sides of 0: ``round(w / s) s``, ``s = max |w| / (2^(bits - 1) - 1)``.

    Jacob et al. 2018, arXiv 1712.05877; of 8 bits it is the grid of onnxruntime.
    """

    plain: ClassVar[str] = "bits"

    bits: int = 8
    """Of a code: one sign, and as many steps to each side as fit, 127 with 8."""

    def fit(self, groups: Tensor) -> Tensor:
        """``s``, [G, 1]; 1 where a group is (nearly) zero, as in onnxruntime."""
        scale = torch.linalg.vector_norm(groups, math.inf, dim=1, keepdim=True) / self._top
        return torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)

    def encode(self, groups: Tensor, fit: Tensor) -> Tensor:
        """``round(w / s)``, halves to even, from 0 up."""
        return torch.div(groups, fit).round_().long() + self._top

    def decode(self, codes: Tensor, fit: Tensor) -> Tensor:
        """Codes times ``s``."""
        return (codes - self._top) * fit

    def snap(self, groups: Tensor, fit: Tensor) -> Tensor:
        """The same without codes, for training."""
        return torch.div(groups, fit).round_().mul_(fit)


@dataclass(kw_only=True)
class Ternary(Grid):
    """``-a, 0, a``: 0 up to ``d = 0.7 mean |w|``, a the mean magnitude above (TWN: Li, Zhang, Liu 2016, 1605.04711)."""

    levels: ClassVar[int] = 3

    def fit(self, groups: Tensor) -> Tensor:
        """``a``, [G, 1]."""
        above = self._above(groups)
        total = torch.linalg.vector_norm(groups * above, 1, dim=1, keepdim=True)
        return total / above.sum(dim=1, keepdim=True).clamp(min=1)

    def encode(self, groups: Tensor, fit: Tensor) -> Tensor:
        """0, 1 and 2 for -a, 0 and a."""
        return (self._above(groups) * groups.sign()).long() + 1

    def decode(self, codes: Tensor, fit: Tensor) -> Tensor:
        """``-a, 0, a``."""
        return (codes - 1) * fit

    def snap(self, groups: Tensor, fit: Tensor) -> Tensor:
        """The same without codes, for training."""
        return groups.sign().mul_(self._above(groups)).mul_(fit)

    def _above(self, groups: Tensor) -> Tensor:
        # What is pruned has no part in the mean: it may leave the tensor while the student trains.
        count = (groups != 0).sum(dim=1, keepdim=True).clamp(min=1)
        return groups.abs() > 0.7 * torch.linalg.vector_norm(groups, 1, dim=1, keepdim=True) / count


@dataclass(kw_only=True)
class Binary(Grid):
    """``-a, a`` with a the mean magnitude (BWN: Rastegari et al. 2016, arXiv 1603.05279); what is pruned stays 0."""

    levels: ClassVar[int] = 2
    whole: ClassVar[bool] = False

    def fit(self, groups: Tensor) -> Tensor:
        """``a``, [G, 1], over what is not 0."""
        return groups.abs().sum(dim=1, keepdim=True) / (groups != 0).sum(dim=1, keepdim=True).clamp(min=1)

    def encode(self, groups: Tensor, fit: Tensor) -> Tensor:
        """1 where a number is not negative."""
        return (groups >= 0).long()

    def decode(self, codes: Tensor, fit: Tensor) -> Tensor:
        """``-a, a``."""
        return (2 * codes - 1) * fit


@dataclass(kw_only=True)
class PowerOfTwo(Signed):
    """0 and ``+-2^e``, e from that of the largest magnitude down: products are shifts (Ott et al. 2016, 1608.06902).

    A magnitude goes to the nearer of the two powers about it, or to 0.
    """

    bits: int = 4
    """Of a code: 7 powers of each sign and 0 with 4."""

    def fit(self, groups: Tensor) -> Tensor:
        """The largest power, [G, 1]; 1 where all is zero."""
        largest = groups.abs().amax(dim=1, keepdim=True)
        return torch.where(largest > 0, _nearest_power(largest), 1.0)

    def encode(self, groups: Tensor, fit: Tensor) -> Tensor:
        """The number of halvings from the largest power, with the sign; 0 lies in the middle."""
        sizes = groups.abs()
        smallest = fit * 2.0 ** (1 - self._top)
        place = torch.log2(_nearest_power(sizes.clamp(min=smallest, max=fit)) / smallest).round() + 1
        return (groups.sign() * torch.where(sizes < smallest / 2, 0.0, place)).long() + self._top

    def decode(self, codes: Tensor, fit: Tensor) -> Tensor:
        """Signed powers."""
        place = codes - self._top
        return place.sign() * fit * torch.pow(2.0, place.abs() - self._top)


def _nearest_power(sizes: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(sizes)  # sizes = mantissa 2^exponent, mantissa from 1/2 to 1
    return torch.ldexp(torch.ones_like(sizes), torch.where(mantissa > 0.75, exponent, exponent - 1))


def check_bits(bits: int, least: int) -> None:
    """Raises ValueError if a code of so many bits is too short for a grid, or longer than a byte."""
    if not least <= bits <= 8:
        raise ValueError(f"bits: must be {least} to 8, not {bits}")
