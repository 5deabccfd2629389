"""Hidden dimensions, as what a pruner ranks and masks: one set, through the whole model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prune_schedules.targets.mask import Mask
from prune_schedules.targets.norms import attach
from prune_schedules.targets.target import Numbers, Parameter, PruneTarget
from prune_schedules.targets.units import UnitTarget
from students.families.linear import is_linear
from students.structure.units import Units
from students.weights import get_weight_transforms, raw_parameter


class HiddenTarget(PruneTarget):
    """The hidden dimensions of a model, under masks on all that makes and reads them; norms count only what is left.

    A masked dimension is not made in a step that looks at gradients either, as a masked neuron or head is: losses on
    hidden states would see it. So it has none.

    Args:
        made: the dimensions in the parameters that make them.
        read: the same in those that read them.
    """

    at_least = 1

    def __init__(self, made: Units, read: Units):
        self.made, self.read = UnitTarget(made), UnitTarget(read)
        self.total = made.count
        weights = [part.module for part in made.slices if part.name == "weight"]
        self.norms = [module for module in weights if not (is_linear(module) or isinstance(module, nn.Embedding))]
        for norm in self.norms:
            attach(norm)

    @property
    def shape(self) -> tuple[int, ...]:
        """[hidden]."""
        return (self.total,)

    @property
    def places(self) -> list[Parameter]:
        """All that makes and reads them; a tied parameter once."""
        return _without_ties(self.made.places + self.read.places)

    @property
    def gates(self) -> dict[Parameter, Mask]:
        """The masks on what reads them."""
        return {place: self.read.masks[place] for place in _without_ties(self.read.places)}

    @property
    def reader(self) -> nn.Module:
        """The last layer that reads the dimensions."""
        return self.read.reader

    def numbers(self, of: Numbers) -> list[Tensor]:
        """What belongs to each dimension, one tensor [hidden, numbers] for each slice; of a tied one once."""
        return [*self._rows(self.made, of), *self._rows(self.read, of)]

    def sent(self, of: Numbers) -> list[Tensor]:
        """The same for the layers alone that read them; of embeddings that are the head as well for these, too."""
        return self._rows(self.read, of)

    def _rows(self, side: UnitTarget, of: Numbers) -> list[Tensor]:
        places = set(_without_ties(side.places))
        slices = [part for part in side.units.slices if (part.module, part.name) in places]
        return [part.rows(of(part.module, part.name), self.total) for part in slices]

    def keep(self, keep: Tensor) -> None:
        """Mask all dimensions but those in ``keep`` (bool [hidden])."""
        self.made.keep(keep)
        self.read.keep(keep)
        for norm in self.norms:
            masks = [step.mask for step in get_weight_transforms(norm) if isinstance(step, Mask)]
            norm.kept.keep(torch.stack(masks).all(dim=0))

    def masked(self) -> tuple[int, int]:
        """Return how many are masked, and of how many."""
        return self.made.masked()

    def accumulate_gradients(self, on: bool) -> None:
        """Let gradients through the gates, or no longer; what is masked stays so."""
        self.read.accumulate_gradients(on)
        self.made.accumulate_gradients(False)

    def suspend_mask(self) -> None:
        """Take the masks off for the step that is looked at."""
        self.made.suspend_mask()
        self.read.suspend_mask()

    def set_gates(self, factors: Tensor | None) -> None:
        """Multiply what reads each dimension by its factor [hidden] in training, or no longer; at 0 it is not made."""
        self.read.set_gates(factors)
        self.made.set_gates(None if factors is None else (factors > 0).to(factors.dtype))


def _without_ties(places: list[Parameter]) -> list[Parameter]:
    """Of places that hold one tensor the first."""
    first: dict[int, Parameter] = {}
    for place in places:
        first.setdefault(id(raw_parameter(*place)), place)
    return list(first.values())
