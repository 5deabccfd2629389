"""The base class of the weight quantizers: groups of weights, their qparams, and codes.

A weight is divided into groups [G, n]. Each group has a few quantization parameters, ``qparams`` [G, k] (a scale, a
codebook), by which codes (0 and up) are decoded to values. A packed file holds codes and qparams; training uses the
decoded values. The qparams are computed from the weight at each step or, where a quantizer sets ``learn``, computed
once and trained from then on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from quant_aware.quantizers.gradients import StraightThrough


@dataclass(kw_only=True)
class Quantizer(ABC):
    """A mapping of the weights of a group to a few values; subclasses define the values."""

    granularity: Literal["row", "tensor"] | int = "row"
    """The weights that share qparams: those of one output (``row``; of an embedding, one token), those of the whole
    ``tensor``, or a number of neighbouring inputs of one output (the group size)."""
    has_zero: ClassVar[bool] = True
    """Whether 0 is always among the values. Where it is not, pruned weights are stored separately and stay 0."""
    learn: ClassVar[bool] = False
    """Whether the qparams are learned, initialized from the weights at the step where the quantizer is enabled."""
    is_elementwise: ClassVar[bool] = False
    """Whether the code of a weight depends only on this weight and the qparams, so that columns can be rounded one by
    one (``gptq``)."""
    is_vector_quantizer: ClassVar[bool] = False
    """Whether one code stands for several neighbouring weights."""

    def __post_init__(self) -> None:
        if isinstance(self.granularity, int) and self.granularity < 2:
            raise ValueError(f"granularity: must be row, tensor or a number above 1, not {self.granularity}")

    @property
    def groups_inputs(self) -> bool:
        """Return whether neighbouring inputs share qparams, so that a group can only be pruned as a whole."""
        return isinstance(self.granularity, int)

    @property
    @abstractmethod
    def levels(self) -> int:
        """Return the number of values in a group, 2 to 256."""

    @property
    def code_bits(self) -> int:
        """Return the bits of a code."""
        return (self.levels - 1).bit_length()

    @property
    def bits_per_weight(self) -> float:
        """Return the bits of the codes per weight, without the qparams."""
        return self.code_bits

    @property
    def qparams_per_group(self) -> int:
        """Return k, the number of qparams of a group."""
        return 1

    @abstractmethod
    def qparams(self, groups: Tensor) -> Tensor:
        """Return the qparams [G, k] of groups [G, n], float32."""

    @abstractmethod
    def encode(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return the codes of the weights, long [G, n], 0 to ``levels - 1``."""

    @abstractmethod
    def decode(self, codes: Tensor, qparams: Tensor) -> Tensor:
        """Return the values [G, n] of codes, float32; differentiable with respect to ``qparams``."""

    def fake_quantize(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return the quantized values of the weights, [G, n]; zeros stay zero."""
        values = self.decode(self.encode(groups, qparams), qparams)
        return values if self.has_zero else torch.where(self.zero_mask(groups), 0.0, values)

    def fake_quantize_dynamic(self, groups: Tensor) -> Tensor:
        """Return ``fake_quantize`` with the qparams of the current weights."""
        return self.fake_quantize(groups, self.qparams(groups))

    def fake_quantize_learned(self, groups: Tensor, qparams: Tensor) -> Tensor:
        """Return ``fake_quantize`` with learned qparams.

        The gradient of a qparam is the sum over the values that it decodes; the gradient of the weights is
        straight-through.
        """
        decoded = self.decode(self.encode(groups.detach(), qparams.detach()), qparams)
        values: Tensor = StraightThrough.apply(groups, decoded)
        return values if self.has_zero else torch.where(self.zero_mask(groups), 0.0, values)

    def recover_codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes and the qparams that ``decode`` to already quantized values [G, n].

        The result is equal up to the last bit, except for zeros where 0 is not among the values.
        """
        qparams = self.qparams(values)
        return self.encode(values, qparams), qparams

    def zero_mask(self, groups: Tensor) -> Tensor:
        """Return which weights stay 0 although 0 is not among the values, bool [G, n]."""
        return groups == 0

    def codes_shape(self, groups: Tensor) -> tuple[int, ...]:
        """Return the shape of the codes of groups [G, n]."""
        return tuple(groups.shape)

    def to_groups(self, weight: Tensor, axis: int = 0) -> Tensor:
        """Return the groups of a weight, float32 [G, n].

        Args:
            weight: of any shape.
            axis: the axis of its outputs.

        Raises:
            ValueError: if the number of inputs is not a multiple of the group size.
        """
        rows = weight.movedim(axis, 0).flatten(1).float()
        if self.granularity == "row":
            return rows
        if self.granularity == "tensor":
            return rows.reshape(1, -1)
        if rows.shape[1] % self.granularity:
            raise ValueError(f"granularity: {rows.shape[1]} inputs do not divide into groups of {self.granularity}")
        return rows.reshape(-1, self.granularity)

    def from_groups(self, groups: Tensor, like: Tensor, axis: int = 0) -> Tensor:
        """Return groups as a weight of the shape and dtype of ``like``; the inverse of ``to_groups``."""
        return groups.reshape(like.movedim(axis, 0).shape).movedim(0, axis).to(like.dtype)


def check_bits(bits: int, minimum: int) -> None:
    """Check the bits of a code.

    Raises:
        ValueError: if they are not between ``minimum`` and 8.
    """
    if not minimum <= bits <= 8:
        raise ValueError(f"bits: must be {minimum} to 8, not {bits}")
