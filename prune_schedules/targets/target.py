"""The contract of a prune target, on which scores, masks and gates rely."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from prune_schedules.targets.mask import Mask

ParameterRef = tuple[nn.Module, str]
"""A parameter as its module and its name there."""
TensorGetter = Callable[[nn.Module, str], Tensor]
"""A function that returns a tensor of the shape of a parameter; ``raw_parameter`` returns the parameter itself."""


class PruneTarget(ABC):
    """A set of items that compete, each of which is masked or kept as a whole, under masks that this object adds.

    An item is a weight, a tile, a neuron, a head, a branch or a hidden dimension. The contract, which a test checks for
    every subclass:

    - ``entries``, ``outgoing_entries`` and ``keep`` are ordered by ``shape``: one index for each item.
    - Only ``keep`` changes evaluation. An item that is not kept is exactly absent from what the model computes, and its
      entries stay beneath the mask, so that it may come back.
    - ``accumulate_gradients``, ``suspend_mask`` and ``set_gates`` last for a training step, and change no buffer;
      ``accumulate_gradients(False)`` ends the first two, ``set_gates(None)`` the third.
    """

    min_kept: int = 0
    """The number of items that always stay."""
    initial_count: int
    """The number of items before any was cut out."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the scores, one for each item."""

    @property
    @abstractmethod
    def parameters(self) -> list[ParameterRef]:
        """Return the parameters with masks; a tied one once."""

    @property
    @abstractmethod
    def outgoing_masks(self) -> dict[ParameterRef, Mask]:
        """Return the masks on the parameters that read the items."""

    @property
    @abstractmethod
    def reader(self) -> nn.Module:
        """Return the layer that reads the items."""

    @abstractmethod
    def entries(self, get: TensorGetter) -> list[Tensor]:
        """Return the entries of each item, tensors [*shape, entries]; of a masked item those beneath the mask.

        Args:
            get: returns the tensor of a parameter.
        """

    @abstractmethod
    def outgoing_entries(self, get: TensorGetter) -> list[Tensor]:
        """Return the same of the parameters alone that read the items."""

    @abstractmethod
    def keep(self, kept: Tensor) -> None:
        """Mask all items but the ``kept`` ones (bool [*shape])."""

    def keep_all(self) -> None:
        """Mask nothing."""
        self.keep(torch.ones(self.shape, dtype=torch.bool))

    @abstractmethod
    def count_masked(self) -> tuple[int, int]:
        """Return the number of items that are masked or cut out, and the number of all."""

    @abstractmethod
    def accumulate_gradients(self, enabled: bool) -> None:
        """Let gradients of masked items through, as if a gate before each item were open, or stop doing so."""

    @abstractmethod
    def suspend_mask(self) -> None:
        """Take the masks off until ``accumulate_gradients(False)``: gates replace them in this step."""

    @abstractmethod
    def set_gates(self, gates: Tensor | None) -> None:
        """Multiply the output of each item by its gate [*shape] in training; None ends it."""
