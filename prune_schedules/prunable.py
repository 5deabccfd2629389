"""What a pruner ranks and masks: the single entries of a weight, or the neurons or heads of a block."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from prune_schedules.mask import Mask
from prune_schedules.scores import unit_magnitude
from students.units import Units
from students.weights import add_step, latent, remove_step

Score = Callable[[Tensor], Tensor]
"""How much each entry of a weight matters, in the shape of the weight."""


class Entries:
    """The single entries of one weight, under one mask of its shape."""

    at_least = 0

    def __init__(self, module: nn.Module):
        weight = latent(module)
        self.module, self.mask, self.total = module, Mask(weight.shape, weight.device), weight.numel()
        add_step(module, self.mask)

    @property
    def places(self) -> list[tuple[nn.Module, str]]:
        """Where masks lie: the module and the name of the parameter."""
        return [(self.module, "weight")]

    def scores(self, score: Score) -> Tensor:
        """One score per entry, in the shape of the weight; of a masked one that of what lies beneath."""
        return score(latent(self.module))

    def keep(self, keep: Tensor) -> None:
        """Mask all entries but those in ``keep`` (bool, the shape of the weight)."""
        self.mask.keep(keep)

    def masked(self) -> tuple[int, int]:
        """How many are masked, or were cut out with a unit, of how many."""
        return self.total - int(self.mask.mask.sum()), self.total


class Whole:
    """The neurons or heads of one block; masks lie on all that belongs to one, so that it is exactly absent.

    The layers that read a unit are masked too, although they read zeros anyway: fake quantization takes the
    scale of a row from all its entries, and must find the same scale when the unit has been cut out.
    """

    at_least = 1

    def __init__(self, units: Units):
        self.units, self.masks, self.left = units, {}, None
        for (module, name), (axis, stay) in units.entries(torch.ones(units.count, dtype=torch.bool)).items():
            weight = latent(module, name)
            shape = tuple(len(stay) if i == axis else 1 for i in range(weight.ndim))
            self.masks[module, name] = Mask(shape, weight.device)
            add_step(module, self.masks[module, name], name)

    @property
    def places(self) -> list[tuple[nn.Module, str]]:
        """Where masks lie: the modules and the names of the parameters."""
        return list(self.masks)

    def scores(self, score: Score) -> Tensor:
        """One score per unit, [count]: the L2 norm over the scores of its entries."""
        return unit_magnitude(
            [part.rows(score(latent(part.module, part.name)), self.units.count) for part in self.units.slices]
        )

    def keep(self, keep: Tensor) -> None:
        """Mask all units but those in ``keep`` (bool [count])."""
        for place, (_, stay) in self.units.entries(keep).items():
            self.masks[place].keep(stay)

    def kept(self) -> Tensor:
        """Which units are not masked, bool [count]."""
        part = self.units.slices[0]
        return part.rows(self.masks[part.module, part.name].mask, self.units.count).any(dim=1)

    def release(self, left: int) -> None:
        """Take the masks off, because all but ``left`` units are going to be cut out."""
        for (module, name), mask in self.masks.items():
            remove_step(module, mask, name)
        self.left = left

    def masked(self) -> tuple[int, int]:
        """How many are masked or have been cut out, of how many."""
        left = int(self.kept().sum()) if self.left is None else self.left
        return self.units.count - left, self.units.count
