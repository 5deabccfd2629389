"""Grids: the few values that the numbers of a weight may have.

A weight is divided into groups [G, n], each with a few numbers of its own, ``fit`` [G, k], by which codes (0 and up)
become values. What is saved of a weight is codes and fit; what it is trained with are the values that they make. The
fit is taken from the weight anew at each step or, where a grid says ``learn``, once, to be trained from then on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from quant_aware.quantizers.gradients import LearnedStep, StraightThrough


@dataclass(kw_only=True)
class Grid(ABC):
    """The values that a weight may have."""

    per: Literal["row", "tensor"] | int = "row"
    """What has a fit of its own: what leads to one output (of an embedding, a token), the whole weight, or so many
    neighbouring inputs."""
    whole: ClassVar[bool] = True
    """Whether 0 is always among the values, so that what is pruned stays so."""
    codes_pieces: ClassVar[bool] = False
    """Whether several numbers have one code."""
    learn: ClassVar[bool] = False
    """Whether the fit is learned, from where the weight is when training on the grid begins."""

    def __post_init__(self):
        if isinstance(self.per, int) and self.per < 2:
            raise ValueError(f"per: must be row, tensor or a number above 1, not {self.per}")

    @property
    def groups_inputs(self) -> bool:
        """Whether neighbouring inputs share a fit, which stay together then."""
        return isinstance(self.per, int)

    @property
    @abstractmethod
    def levels(self) -> int:
        """How many values a group may have."""

    @property
    def width(self) -> int:
        """The bits of a code."""
        return (self.levels - 1).bit_length()

    @property
    def rate(self) -> float:
        """The bits of a number, without the fits."""
        return self.width

    @property
    def numbers(self) -> int:
        """How many of them a fit has for each group."""
        return 1

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
        return values if self.whole else torch.where(self.kept_zero(groups), 0.0, values)

    def round(self, groups: Tensor) -> Tensor:
        """The values that take the place of the numbers, [G, n], by a fit of the moment."""
        return self.snap(groups, self.fit(groups))

    def teach(self, groups: Tensor, fit: Tensor) -> Tensor:
        """As ``snap``, for a fit that is learned: the gradient of each of its numbers is the sum over the values that
        it makes, that of the weight is straight-through.
        """
        values = StraightThrough.apply(groups, self.decode(self.encode(groups.detach(), fit.detach()), fit))
        return values if self.whole else torch.where(self.kept_zero(groups), 0.0, values)

    def store(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The codes and the fit that ``decode`` to values [G, n] that lie on the grid already (up to the last bit, and
        but for zeros where 0 is none of the values).
        """
        fit = self.fit(values)
        return self.encode(values, fit), fit

    def kept_zero(self, groups: Tensor) -> Tensor:
        """Which numbers stay 0 on a grid without one, bool [G, n]."""
        return groups == 0

    def codes_of(self, groups: Tensor) -> tuple[int, ...]:
        """The shape of the codes of groups [G, n]."""
        return tuple(groups.shape)

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
    """Evenly spaced values on both sides of 0: ``round(w / s) s``, ``s = max |w| / q``, ``q = 2^(bits - 1) - 1``.

    Jacob et al. 2018, arXiv 1712.05877; of 8 bits it is the grid of onnxruntime. With ``learn`` the step s is a
    parameter that begins with ``2 mean |w| / sqrt(q)``; what lies outside ``-q s`` to ``q s`` is clipped, and has no
    gradient (LSQ: Esser et al. 2019, arXiv 1902.08153).
    """

    plain: ClassVar[str] = "bits"

    bits: int = 8
    """Of a code: one sign, and as many steps to each side as fit, 127 with 8."""
    learn: bool = False
    """Whether the step is learned."""

    def fit(self, groups: Tensor) -> Tensor:
        """``s``, [G, 1]; 1 where a group is (nearly) zero, as in onnxruntime."""
        if self.learn:
            count = (groups != 0).sum(dim=1, keepdim=True).clamp(min=1)  # what is pruned has no part in the mean
            scale = 2 * torch.linalg.vector_norm(groups, 1, dim=1, keepdim=True) / count / math.sqrt(self._top)
        else:
            scale = torch.linalg.vector_norm(groups, math.inf, dim=1, keepdim=True) / self._top
        return torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)

    def encode(self, groups: Tensor, fit: Tensor) -> Tensor:
        """``round(w / s)``, halves to even, from 0 up."""
        return torch.div(groups, fit).round_().clamp_(-self._top, self._top).long() + self._top

    def decode(self, codes: Tensor, fit: Tensor) -> Tensor:
        """Codes times ``s``."""
        return (codes - self._top) * fit

    def snap(self, groups: Tensor, fit: Tensor) -> Tensor:
        """The same without codes, for training."""
        return torch.div(groups, fit).round_().mul_(fit)

    def teach(self, groups: Tensor, fit: Tensor) -> Tensor:
        """The same for a step that is learned: the rounding passes gradients unchanged, the clipping does not."""
        return LearnedStep.apply(groups, fit.abs().clamp(min=torch.finfo(torch.float32).tiny), self._top)

    def store(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The largest step of which all values are multiples: the last may not occur where a step is learned, or where
        rows of a whole table have left it.
        """
        if not self.learn and self.per != "tensor":
            return super().store(values)
        largest = torch.linalg.vector_norm(values, math.inf, dim=1, keepdim=True)
        fit, found = torch.ones_like(largest), largest == 0
        for steps in range(1, self._top + 1):
            scale = torch.where(found, 1.0, largest / steps)
            places = values / scale
            fits = ~found & ((places - places.round()).abs().amax(dim=1, keepdim=True) < 1e-3)
            fit, found = torch.where(fits, scale, fit), found | fits
        return self.encode(values, fit), fit


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
