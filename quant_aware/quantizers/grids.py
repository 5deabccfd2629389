"""Quantizers: how the numbers of a weight become one of a few values.

A weight is divided into groups [G, n], each with a few numbers of its own, ``qparams`` [G, k], by which codes (0 and
up) become values. Codes and qparams are saved of a weight; what it is trained with are the values that they make.
The qparams are taken from the weight anew at each step or, where a quantizer says ``learn``, once, to be trained from
then on.
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
class Quantizer(ABC):
    """How the numbers of a weight become one of a few values; each subclass is one way."""

    per: Literal["row", "tensor"] | int = "row"
    """What has qparams of its own: what leads to one output (of an embedding, a token), the whole weight, or so many
    neighbouring inputs."""
    has_zero: ClassVar[bool] = True
    """Whether 0 is always among the values; where it is not, what is pruned is kept at 0 beside them."""
    learn: ClassVar[bool] = False
    """Whether the qparams are learned, from where the weight is when training with the quantizer begins."""
    is_elementwise: ClassVar[bool] = False
    """Whether the code of a number depends on that number and the qparams alone, so that columns can be rounded one by
    one (``gptq``)."""
    in_pieces: ClassVar[bool] = False
    """Whether a code stands for several neighbouring numbers."""

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
        """Return how many values a group may have, 2 to 256."""

    @property
    def width(self) -> int:
        """Return the bits of a code."""
        return (self.levels - 1).bit_length()

    @property
    def rate(self) -> float:
        """Return the bits of a number, without the qparams."""
        return self.width

    @property
    def qparams_per_group(self) -> int:
        """Return k, how many numbers the qparams of a group are."""
        return 1

    @abstractmethod
    def qparams(self, groups: Tensor) -> Tensor:
        """Return the qparams [G, k] of groups [G, n], float32."""

    @abstractmethod
    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return the codes [G, n], long, 0 to ``levels - 1``: of each number that of the value that takes its place."""

    @abstractmethod
    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """Return the values [G, n] of codes, float32; differentiable by ``qparams``."""

    def fake_quantize(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return the values that take the place of the numbers, [G, n]; a 0 stays one."""
        values = self.decode(self.encode(groups, qparams), qparams)
        return values if self.has_zero else torch.where(self.kept_zero(groups), 0.0, values)

    def round(self, groups: Tensor) -> Tensor:
        """Return ``fake_quantize`` by the qparams that the groups have now."""
        return self.fake_quantize(groups, self.qparams(groups))

    def fake_quantize_learned(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return ``fake_quantize`` by qparams that are learned.

        The gradient of each of them is the sum over the values that it makes, that of the weight is straight-through.
        """
        values = StraightThrough.apply(groups, self.decode(self.encode(groups.detach(), qparams.detach()), qparams))
        return values if self.has_zero else torch.where(self.kept_zero(groups), 0.0, values)

    def store(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes and the qparams that ``decode`` to values [G, n] that are quantized already.

        Up to the last bit, and but for zeros where 0 is none of the values.
        """
        qparams = self.qparams(values)
        return self.encode(values, qparams), qparams

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
class Signed(Quantizer):
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

    shorthand: ClassVar[str] = "bits"

    is_elementwise: ClassVar[bool] = True

    bits: int = 8
    """Of a code: one sign, and as many steps to each side as fit, 127 with 8."""
    learn: bool = False
    """Whether the step is learned."""

    def qparams(self, groups: Tensor) -> Tensor:
        """``s``, [G, 1]; 1 where a group is (nearly) zero, as in onnxruntime."""
        if self.learn:
            count = (groups != 0).sum(dim=1, keepdim=True).clamp(min=1)  # what is pruned has no part in the mean
            scale = 2 * torch.linalg.vector_norm(groups, 1, dim=1, keepdim=True) / count / math.sqrt(self._top)
        else:
            scale = torch.linalg.vector_norm(groups, math.inf, dim=1, keepdim=True) / self._top
        return torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """``round(w / s)``, halves to even, from 0 up."""
        return torch.div(groups, qparams).round_().clamp_(-self._top, self._top).long() + self._top

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """Codes times ``s``."""
        return (codes - self._top) * qparams

    def fake_quantize(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """The same without codes, for training."""
        return torch.div(groups, qparams).round_().mul_(qparams)

    def fake_quantize_learned(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """The same for a step that is learned: the rounding passes gradients unchanged, the clipping does not."""
        return LearnedStep.apply(groups, qparams.abs().clamp(min=torch.finfo(torch.float32).tiny), self._top)

    def store(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The largest step of which all values are multiples: the last may not occur where a step is learned, or where
        rows of a whole table have left it.
        """
        if not self.learn and self.per != "tensor":
            return super().store(values)
        largest = torch.linalg.vector_norm(values, math.inf, dim=1, keepdim=True)
        qparams, found = torch.ones_like(largest), largest == 0
        for steps in range(1, self._top + 1):
            scale = torch.where(found, 1.0, largest / steps)
            places = values / scale
            fits = ~found & ((places - places.round()).abs().amax(dim=1, keepdim=True) < 1e-3)
            qparams, found = torch.where(fits, scale, qparams), found | fits
        return self.encode(values, qparams), qparams


@dataclass(kw_only=True)
class PowerOfTwo(Signed):
    """0 and ``+-2^e``, e from that of the largest magnitude down: products are shifts (Ott et al. 2016, 1608.06902).

    A magnitude goes to the nearer of the two powers about it, or to 0.
    """

    bits: int = 4
    """Of a code: 7 powers of each sign and 0 with 4."""

    def qparams(self, groups: Tensor) -> Tensor:
        """The largest power, [G, 1]; 1 where all is zero."""
        largest = groups.abs().amax(dim=1, keepdim=True)
        return torch.where(largest > 0, _nearest_power(largest), 1.0)

    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """The number of halvings from the largest power, with the sign; 0 lies in the middle."""
        sizes = groups.abs()
        smallest = qparams * 2.0 ** (1 - self._top)
        place = torch.log2(_nearest_power(sizes.clamp(min=smallest, max=qparams)) / smallest).round() + 1
        return (groups.sign() * torch.where(sizes < smallest / 2, 0.0, place)).long() + self._top

    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """Signed powers."""
        place = codes - self._top
        return place.sign() * qparams * torch.pow(2.0, place.abs() - self._top)


def _nearest_power(sizes: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(sizes)  # sizes = mantissa 2^exponent, mantissa from 1/2 to 1
    return torch.ldexp(torch.ones_like(sizes), torch.where(mantissa > 0.75, exponent, exponent - 1))


def check_bits(bits: int, least: int) -> None:
    """Raises ValueError if a code of so many bits is too short for a grid, or longer than a byte."""
    if not least <= bits <= 8:
        raise ValueError(f"bits: must be {least} to 8, not {bits}")
