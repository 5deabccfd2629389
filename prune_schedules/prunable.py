"""What a pruner ranks and masks: the single entries of a weight, or neurons, heads or whole branches of a block."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from prune_schedules.mask import Mask
from prune_schedules.scores import unit_magnitude
from students.units import Units
from students.weights import add_step, latent

Score = Callable[[Tensor], Tensor]
"""How much each entry of a weight matters, in the shape of the weight."""


class Entries:
    """The single entries of one weight, under one mask of its shape."""

    at_least = 0

    def __init__(self, module: nn.Module):
        weight = latent(module)
        self.module, self.mask = module, Mask(weight.shape, weight.device)
        add_step(module, self.mask)

    def scores(self, score: Score) -> Tensor:
        """One score per entry, in the shape of the weight; of a masked one that of what lies beneath."""
        return score(latent(self.module))

    def keep(self, keep: Tensor) -> None:
        """Mask all entries but those in ``keep`` (bool, the shape of the weight)."""
        self.mask.keep(keep)

    def masked(self) -> tuple[int, int]:
        """How many are masked, of how many."""
        return int((~self.mask.mask).sum()), self.mask.mask.numel()


class Whole:
    """The neurons or heads of one block, or one of its branches; masks lie on all that belongs to one, so that it is
    exactly absent.

    The layers that read a unit are masked too, although they read zeros anyway: fake quantization takes the
    scale of a row from all its entries, and must find the same scale when the unit has been cut out.
    """

    def __init__(self, units: Units, at_least: int = 1):
        self.units, self.at_least, self.masks = units, at_least, {}
        for (module, name), (axis, stay) in units.entries(torch.ones(units.count, dtype=torch.bool)).items():
            weight = latent(module, name)
            shape = tuple(len(stay) if i == axis else 1 for i in range(weight.ndim))
            self.masks[module, name] = Mask(shape, weight.device)
            add_step(module, self.masks[module, name], name)

    def scores(self, score: Score) -> Tensor:
        """One score per unit, [count]: the root mean square of the scores of its entries."""
        return unit_magnitude(
            [part.rows(score(latent(part.module, part.name)), self.units.count) for part in self.units.slices]
        )

    def keep(self, keep: Tensor) -> None:
        """Mask all units but those in ``keep`` (bool [count])."""
        for place, (_, stay) in self.units.entries(keep).items():
            self.masks[place].keep(stay)

    def masked(self) -> tuple[int, int]:
        """How many are masked, of how many."""
        part = self.units.slices[0]
        stays = part.rows(self.masks[part.module, part.name].mask, self.units.count).any(dim=1)
        return int((~stays).sum()), self.units.count
