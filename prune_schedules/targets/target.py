"""What a pruner ranks and masks: the contract that scores, masks and gates rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from prune_schedules.targets.mask import Mask

Parameter = tuple[nn.Module, str]
"""A parameter as its module and its name there."""
Numbers = Callable[[nn.Module, str], Tensor]
"""A number for each entry of a parameter, by its module and name; ``raw_parameter`` gives the parameter itself."""


class PruneTarget(ABC):
    """A set of items that compete, each of which is masked or kept as a whole, under masks that this object puts on.

    An item is a weight, a tile, a neuron, a head, a branch or a hidden dimension. The contract, which a test holds for
    every subclass:

    - ``numbers``, ``sent`` and ``keep`` go by ``shape``: one place for each item.
    - ``keep`` is all that evaluation sees. An item that is not kept is exactly absent from what the model computes,
      and its numbers stay beneath the mask, so that it may come back.
    - ``accumulate_gradients``, ``suspend_mask`` and ``set_gates`` hold for a training step, and change no buffer;
      ``accumulate_gradients(False)`` ends the first two, ``set_gates(None)`` the third.
    """

    at_least: int = 0
    """How many items must stay."""
    total: int
    """How many items there were at first."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of a score for each item."""

    @property
    @abstractmethod
    def places(self) -> list[Parameter]:
        """Where masks lie; a tied parameter once."""

    @property
    @abstractmethod
    def gates(self) -> dict[Parameter, Mask]:
        """The masks by which an item reaches what comes after it, by their place."""

    @property
    @abstractmethod
    def reader(self) -> nn.Module:
        """The layer that reads the items."""

    @abstractmethod
    def numbers(self, of: Numbers) -> list[Tensor]:
        """What belongs to each item, tensors [*shape, numbers]; of a masked one what lies beneath."""

    @abstractmethod
    def sent(self, of: Numbers) -> list[Tensor]:
        """The same of the parameters alone by which an item reaches what comes after it."""

    @abstractmethod
    def keep(self, keep: Tensor) -> None:
        """Mask all items but those in ``keep`` (bool [*shape])."""

    def keep_all(self) -> None:
        """Mask nothing."""
        self.keep(torch.ones(self.shape, dtype=torch.bool))

    @abstractmethod
    def masked(self) -> tuple[int, int]:
        """Return how many are masked or have been cut out, and of how many."""

    @abstractmethod
    def accumulate_gradients(self, on: bool) -> None:
        """Let gradients of what is masked through, or no longer, as if a gate before each item were open."""

    @abstractmethod
    def suspend_mask(self) -> None:
        """Take the masks off until ``accumulate_gradients(False)``: gates stand for them in this step."""

    @abstractmethod
    def set_gates(self, factors: Tensor | None) -> None:
        """Multiply what each item sends on by its factor [*shape] in training, or no longer."""
