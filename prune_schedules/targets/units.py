"""Neurons, heads, ranks and whole branches of a block as prune targets."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from prune_schedules.targets.mask import Mask
from prune_schedules.targets.target import ParameterRef, PruneTarget, TensorGetter
from students.structure.units import Units
from students.weights import add_weight_transform, get_weight_transforms, raw_parameter, remove_weight_transform


class UnitTarget(PruneTarget):
    """The neurons or heads of one block, or one of its branches, with masks on all parameters of a unit.

    The layers that read a unit are masked too, although they read zeros anyway: fake quantization takes the scale of a
    row from all its entries, and must find the same scale when the unit has been cut out.

    Args:
        units: the units and their slices of parameters.
        min_kept: the number of units that always stay.
    """

    def __init__(self, units: Units, min_kept: int = 1):
        self.units, self.min_kept, self.initial_count = units, min_kept, units.count
        self.remaining: int | None = None
        """The number of units that are left after the others have been cut out."""
        self.masks: dict[ParameterRef, Mask] = {}
        for (module, name), (axis, kept) in units.kept_entries(torch.ones(units.count, dtype=torch.bool)).items():
            weight = raw_parameter(module, name)
            shape = tuple(len(kept) if i == axis else 1 for i in range(weight.ndim))
            self.masks[module, name] = Mask(shape, weight.device)
            add_weight_transform(module, self.masks[module, name], name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return [count], the units that have not been cut out."""
        return (self.units.count,)

    @property
    def parameters(self) -> list[ParameterRef]:
        """Return all parameters of the units."""
        return list(self.masks)

    @property
    def outgoing_masks(self) -> dict[ParameterRef, Mask]:
        """Return the masks on the parameters that read the units."""
        parameters = [(part.module, part.name) for part in self.units.output_slices]
        return {parameter: self.masks[parameter] for parameter in parameters}

    @property
    def reader(self) -> nn.Module:
        """Return the layer that reads the units."""
        return self.units.slices[-1].module

    def entries(self, get: TensorGetter) -> list[Tensor]:
        """Return the entries of each unit, one tensor [count, entries] for each slice."""
        return [part.rows(get(part.module, part.name), self.units.count) for part in self.units.slices]

    def outgoing_entries(self, get: TensorGetter) -> list[Tensor]:
        """Return the same of the parameters alone that read the units."""
        return [part.rows(get(part.module, part.name), self.units.count) for part in self.units.output_slices]

    def keep(self, kept: Tensor) -> None:
        """Mask all units but the ``kept`` ones (bool [count])."""
        for parameter, (_, entries) in self.units.kept_entries(kept).items():
            self.masks[parameter].keep(entries)

    def kept_units(self) -> Tensor:
        """Return which units are not masked, bool [count]."""
        part = self.units.slices[0]
        return part.rows(self.masks[part.module, part.name].mask, self.units.count).any(dim=1)

    def detach(self, remaining: int) -> None:
        """Remove the masks, because all but ``remaining`` units are about to be cut out, and describe these alone."""
        for (module, name), mask in self.masks.items():
            if mask in get_weight_transforms(module, name):
                remove_weight_transform(module, mask, name)
        count = max(self.units.count, 1)
        slices = tuple(replace(part, start=part.start * remaining // count) for part in self.units.slices)
        self.units, self.remaining = replace(self.units, count=remaining, slices=slices), remaining

    def count_masked(self) -> tuple[int, int]:
        """Return the number of units that are masked or cut out, and the number of all."""
        remaining = int(self.kept_units().sum()) if self.remaining is None else self.remaining
        return self.initial_count - remaining, self.initial_count

    def accumulate_gradients(self, enabled: bool) -> None:
        """Let gradients of masked units through, or stop doing so: meanwhile they are computed, but not read."""
        outgoing = self.outgoing_masks
        for parameter, mask in self.masks.items():
            mask.straight_through = enabled and parameter in outgoing
            mask.suspended = enabled and parameter not in outgoing

    def suspend_mask(self) -> None:
        """Take the masks off for this training step."""
        for mask in self.masks.values():
            mask.suspended = True

    def set_gates(self, gates: Tensor | None) -> None:
        """Multiply the output of each unit by its gate [count] in training; None ends it."""
        for part in self.units.output_slices:
            mask = self.masks[part.module, part.name]
            mask.gate = None if gates is None else gates.repeat_interleave(part.size).view(mask.mask.shape)
