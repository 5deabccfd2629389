"""What a pruner ranks and masks: entries or tiles of a weight, or neurons, heads or whole branches of a block."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from prune_schedules.targets.mask import Mask
from students.structure.units import Units
from students.weights import add_step, latent, out_axis, remove_step, steps_on

Numbers = Callable[[nn.Module, str], Tensor]
"""A number for each entry of a parameter, by its module and name; ``latent`` gives the parameter itself."""


class Entries:
    """The entries of one weight, or its tiles of ``tile`` outputs by inputs, under one mask."""

    at_least, left = 0, None

    def __init__(self, module: nn.Module, tile: tuple[int, int] = (1, 1)):
        weight = latent(module)
        self.module, self.tile, self.total = module, tile, weight.numel()
        self.mask = Mask(weight.shape, weight.device)
        add_step(module, self.mask)

    @property
    def places(self) -> list[tuple[nn.Module, str]]:
        """Where masks lie: the module and the name of the parameter."""
        return [(self.module, "weight")]

    def numbers(self, of: Numbers) -> list[Tensor]:
        """What belongs to each tile, as one tensor [outputs, inputs, numbers]; of a masked one what lies beneath."""
        (rows, columns), tensor = self.tile, self._outputs_first(of(self.module, "weight"))
        if self.tile == (1, 1):
            return [tensor.unsqueeze(-1)]
        return [tensor.unfold(0, rows, rows).unfold(1, columns, columns).flatten(2)]

    sent = numbers

    def keep(self, keep: Tensor) -> None:
        """Mask all tiles but those in ``keep`` (bool [outputs, inputs])."""
        self.mask.keep(self._spread(keep))

    def keep_all(self) -> None:
        """Mask nothing."""
        self.mask.keep(torch.ones_like(self.mask.mask))

    def masked(self) -> tuple[int, int]:
        """How many are masked, or were cut out with a unit, of how many."""
        return self.total - int(self.mask.mask.sum()), self.total

    @property
    def reader(self) -> nn.Module:
        """The module itself."""
        return self.module

    @property
    def gates(self) -> dict[tuple[nn.Module, str], Mask]:
        """The masks by which a tile reaches what comes after it, by module and name of the parameter."""
        return {(self.module, "weight"): self.mask}

    def look(self, looking: bool) -> None:
        """Let gradients of what is masked through, or no longer."""
        self.mask.straight, self.mask.idle = looking, False

    def lift(self) -> None:
        """Take the mask off for the step that is looked at."""
        self.mask.idle = True

    def multiply(self, factors: Tensor | None) -> None:
        """Multiply each tile by its factor [outputs, inputs] in training, or no longer."""
        self.mask.factor = None if factors is None else self._spread(factors)

    def _spread(self, tiles: Tensor) -> Tensor:
        rows, columns = self.tile
        return self._outputs_first(tiles.repeat_interleave(rows, 0).repeat_interleave(columns, 1))

    def _outputs_first(self, tensor: Tensor) -> Tensor:
        return tensor.movedim(out_axis(self.module), 0)


class Whole:
    """The neurons or heads of one block, or one of its branches; masks lie on all that belongs to one, so that it is
    exactly absent.

    The layers that read a unit are masked too, although they read zeros anyway: fake quantization takes the
    scale of a row from all its entries, and must find the same scale when the unit has been cut out.
    """

    def __init__(self, units: Units, at_least: int = 1):
        self.units, self.at_least, self.masks, self.total, self.left = units, at_least, {}, units.count, None
        for (module, name), (axis, stay) in units.entries(torch.ones(units.count, dtype=torch.bool)).items():
            weight = latent(module, name)
            shape = tuple(len(stay) if i == axis else 1 for i in range(weight.ndim))
            self.masks[module, name] = Mask(shape, weight.device)
            add_step(module, self.masks[module, name], name)

    @property
    def places(self) -> list[tuple[nn.Module, str]]:
        """Where masks lie: the modules and the names of the parameters."""
        return list(self.masks)

    def numbers(self, of: Numbers) -> list[Tensor]:
        """What belongs to each unit, one tensor [count, numbers] for each slice."""
        return [part.rows(of(part.module, part.name), self.units.count) for part in self.units.slices]

    def sent(self, of: Numbers) -> list[Tensor]:
        """The same for what sends them on alone."""
        return [part.rows(of(part.module, part.name), self.units.count) for part in self.units.sending]

    def keep(self, keep: Tensor) -> None:
        """Mask all units but those in ``keep`` (bool [count])."""
        for place, (_, stay) in self.units.entries(keep).items():
            self.masks[place].keep(stay)

    def keep_all(self) -> None:
        """Mask nothing."""
        self.keep(torch.ones(self.units.count, dtype=torch.bool))

    def kept(self) -> Tensor:
        """Which units are not masked, bool [count]."""
        part = self.units.slices[0]
        return part.rows(self.masks[part.module, part.name].mask, self.units.count).any(dim=1)

    def release(self, left: int) -> None:
        """Take the masks off, because all but ``left`` units are going to be cut out, and stand for these alone."""
        for (module, name), mask in self.masks.items():
            if mask in steps_on(module, name):
                remove_step(module, mask, name)
        slices = tuple(replace(part, start=part.start * left // max(self.units.count, 1)) for part in self.units.slices)
        self.units, self.left = replace(self.units, count=left, slices=slices), left

    def masked(self) -> tuple[int, int]:
        """How many are masked or have been cut out, of how many."""
        left = int(self.kept().sum()) if self.left is None else self.left
        return self.total - left, self.total

    @property
    def reader(self) -> nn.Module:
        """The layer that reads the units."""
        return self.units.slices[-1].module

    @property
    def gates(self) -> dict[tuple[nn.Module, str], Mask]:
        """The masks by which a unit reaches what comes after it, by module and name of the parameter."""
        places = [(part.module, part.name) for part in self.units.sending]
        return {place: self.masks[place] for place in places}

    def look(self, looking: bool) -> None:
        """Let gradients of what is masked through, or no longer: meanwhile a masked unit is made, and is not read."""
        gates = self.gates
        for place, mask in self.masks.items():
            mask.straight, mask.idle = looking and place in gates, looking and place not in gates

    def lift(self) -> None:
        """Take the masks off for the step that is looked at."""
        for mask in self.masks.values():
            mask.idle = True

    def multiply(self, factors: Tensor | None) -> None:
        """Multiply what each unit sends by its factor [count] in training, or no longer."""
        for part in self.units.sending:
            mask = self.masks[part.module, part.name]
            mask.factor = None if factors is None else factors.repeat_interleave(part.size).view(mask.mask.shape)
