"""What a pruner ranks and masks as hidden dimensions: one set, through the whole model."""

import torch
from torch import Tensor, nn

from prune_schedules.targets.mask import Mask
from prune_schedules.targets.norms import listen
from prune_schedules.targets.prunable import Numbers, Whole
from students.structure.units import Units
from students.weights import is_linear, latent, steps_on


class Stream:
    """The hidden dimensions of a model, under masks on all that makes and reads them; norms count only what is left.

    A masked dimension is not made in a step that looks at gradients either, as a masked neuron or head is: losses on
    hidden states would see it. So it has none.
    """

    at_least, left = 1, None

    def __init__(self, made: Units, read: Units):
        self.made, self.read = Whole(made), Whole(read)
        self.total = made.count
        weights = [part.module for part in made.slices if part.name == "weight"]
        self.norms = [module for module in weights if not (is_linear(module) or isinstance(module, nn.Embedding))]
        for norm in self.norms:
            listen(norm)

    @property
    def places(self) -> list[tuple[nn.Module, str]]:
        """Where masks lie: the modules and the names of the parameters, a tied one once."""
        return _once(self.made.places + self.read.places)

    def numbers(self, of: Numbers) -> list[Tensor]:
        """What belongs to each dimension, one tensor [hidden, numbers] for each slice; of a tied one once."""
        return [*self._rows(self.made, of), *self._rows(self.read, of)]

    def sent(self, of: Numbers) -> list[Tensor]:
        """The same for the layers alone that read them; of embeddings that are the head as well for these, too."""
        return self._rows(self.read, of)

    def _rows(self, whole: Whole, of: Numbers) -> list[Tensor]:
        once = set(_once(whole.places))
        slices = [part for part in whole.units.slices if (part.module, part.name) in once]
        return [part.rows(of(part.module, part.name), self.total) for part in slices]

    def keep(self, keep: Tensor) -> None:
        """Mask all dimensions but those in ``keep`` (bool [hidden])."""
        self.made.keep(keep)
        self.read.keep(keep)
        for norm in self.norms:
            masks = [step.mask for step in steps_on(norm) if isinstance(step, Mask)]
            norm.kept.keep(torch.stack(masks).all(dim=0))

    def keep_all(self) -> None:
        """Mask nothing."""
        self.keep(torch.ones(self.total, dtype=torch.bool))

    def masked(self) -> tuple[int, int]:
        """How many are masked, of how many."""
        return self.made.masked()

    @property
    def reader(self) -> nn.Module:
        """The last layer that reads the dimensions."""
        return self.read.reader

    @property
    def gates(self) -> dict[tuple[nn.Module, str], Mask]:
        """The masks by which a dimension reaches what comes after it, by module and name of the parameter."""
        return {place: self.read.masks[place] for place in _once(self.read.places)}

    def look(self, looking: bool) -> None:
        """Let gradients through the gates, or no longer; what is masked stays so."""
        self.read.look(looking)
        self.made.look(False)

    def lift(self) -> None:
        """Take the masks off for the step that is looked at."""
        self.made.lift()
        self.read.lift()

    def multiply(self, factors: Tensor | None) -> None:
        """Multiply what reads each dimension by its factor [hidden] in training, or no longer; at 0 it is not made."""
        self.read.multiply(factors)
        self.made.multiply(None if factors is None else (factors > 0).to(factors.dtype))


def _once(places: list[tuple[nn.Module, str]]) -> list[tuple[nn.Module, str]]:
    """Of places that hold one tensor the first."""
    found: dict[int, tuple[nn.Module, str]] = {}
    for place in places:
        found.setdefault(id(latent(*place)), place)
    return list(found.values())
