"""Neurons, heads and whole branches of a block, as what a pruner ranks and masks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from prune_schedules.targets.mask import Mask
from prune_schedules.targets.target import Numbers, Parameter, PruneTarget
from students.structure.units import Units
from students.weights import add_weight_transform, get_weight_transforms, raw_parameter, remove_weight_transform


class UnitTarget(PruneTarget):
    """The neurons or heads of one block, or one of its branches; masks lie on all that belongs to one, so that it is
    exactly absent.

    The layers that read a unit are masked too, although they read zeros anyway: fake quantization takes the
    scale of a row from all its entries, and must find the same scale when the unit has been cut out.

    Args:
        units: where they lie.
        at_least: how many must stay.
    """

    def __init__(self, units: Units, at_least: int = 1):
        self.units, self.at_least, self.total = units, at_least, units.count
        self.left: int | None = None
        """How many are left, once the others have been cut out."""
        self.masks: dict[Parameter, Mask] = {}
        for (module, name), (axis, stay) in units.kept_entries(torch.ones(units.count, dtype=torch.bool)).items():
            weight = raw_parameter(module, name)
            shape = tuple(len(stay) if i == axis else 1 for i in range(weight.ndim))
            self.masks[module, name] = Mask(shape, weight.device)
            add_weight_transform(module, self.masks[module, name], name)

    @property
    def shape(self) -> tuple[int, ...]:
        """[count], of the units that have not been cut out."""
        return (self.units.count,)

    @property
    def places(self) -> list[Parameter]:
        """All that belongs to a unit."""
        return list(self.masks)

    @property
    def gates(self) -> dict[Parameter, Mask]:
        """The masks on what sends a unit on."""
        places = [(part.module, part.name) for part in self.units.output_slices]
        return {place: self.masks[place] for place in places}

    @property
    def reader(self) -> nn.Module:
        """The layer that reads the units."""
        return self.units.slices[-1].module

    def numbers(self, of: Numbers) -> list[Tensor]:
        """What belongs to each unit, one tensor [count, numbers] for each slice."""
        return [part.rows(of(part.module, part.name), self.units.count) for part in self.units.slices]

    def sent(self, of: Numbers) -> list[Tensor]:
        """The same for what sends them on alone."""
        return [part.rows(of(part.module, part.name), self.units.count) for part in self.units.output_slices]

    def keep(self, keep: Tensor) -> None:
        """Mask all units but those in ``keep`` (bool [count])."""
        for place, (_, stay) in self.units.kept_entries(keep).items():
            self.masks[place].keep(stay)

    def kept(self) -> Tensor:
        """Return which units are not masked, bool [count]."""
        part = self.units.slices[0]
        return part.rows(self.masks[part.module, part.name].mask, self.units.count).any(dim=1)

    def release(self, left: int) -> None:
        """Take the masks off, because all but ``left`` units are going to be cut out, and stand for these alone."""
        for (module, name), mask in self.masks.items():
            if mask in get_weight_transforms(module, name):
                remove_weight_transform(module, mask, name)
        slices = tuple(replace(part, start=part.start * left // max(self.units.count, 1)) for part in self.units.slices)
        self.units, self.left = replace(self.units, count=left, slices=slices), left

    def masked(self) -> tuple[int, int]:
        """Return how many are masked or have been cut out, and of how many."""
        left = int(self.kept().sum()) if self.left is None else self.left
        return self.total - left, self.total

    def accumulate_gradients(self, on: bool) -> None:
        """Let gradients of what is masked through, or no longer: meanwhile a masked unit is made, and is not read."""
        gates = self.gates
        for place, mask in self.masks.items():
            mask.straight, mask.idle = on and place in gates, on and place not in gates

    def suspend_mask(self) -> None:
        """Take the masks off for the step that is looked at."""
        for mask in self.masks.values():
            mask.idle = True

    def set_gates(self, factors: Tensor | None) -> None:
        """Multiply what each unit sends by its factor [count] in training, or no longer."""
        for part in self.units.output_slices:
            mask = self.masks[part.module, part.name]
            mask.factor = None if factors is None else factors.repeat_interleave(part.size).view(mask.mask.shape)
