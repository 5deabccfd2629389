"""What a pruner ranks and masks as hidden dimensions: one set, through the whole model."""

import torch
from torch import Tensor, nn

from prune_schedules.mask import Mask
from prune_schedules.norms import listen
from prune_schedules.prunable import Numbers, Whole
from students.units import Units
from students.weights import LINEAR, latent, steps_on


class Stream:
    """The hidden dimensions of a model, under masks on all that makes and reads them; norms count only what is left.

    What reads a masked dimension has no gradient by it, for it is not made: other than neurons and heads, which go on
    in a step that looks at gradients, one would be seen by the losses on hidden states.
    """

    at_least, left = 1, None

    def __init__(self, made: Units, read: Units):
        self.made, self.read = Whole(made), Whole(read)
        self.total = made.count
        others = (*LINEAR, nn.Embedding)
        self.norms = [part.module for part in made.slices if part.name == "weight"]
        self.norms = [module for module in self.norms if not isinstance(module, others)]
        for norm in self.norms:
            listen(norm)

    @property
    def places(self) -> list[tuple[nn.Module, str]]:
        """Where masks lie: the modules and the names of the parameters, a tied one once."""
        return list({id(latent(*place)): place for place in self.made.places + self.read.places}.values())

    def numbers(self, of: Numbers) -> list[Tensor]:
        """What belongs to each dimension, one tensor [hidden, numbers] for each slice; of a tied one once."""
        slices = self.made.units.slices + self.read.units.slices
        once = {(id(latent(part.module, part.name)), part.axis): part for part in reversed(slices)}
        return [part.rows(of(part.module, part.name), self.total) for part in reversed(once.values())]

    def sent(self, of: Numbers) -> list[Tensor]:
        """The same for the layers alone that read them."""
        return self.read.numbers(of)

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

    def gate(self) -> tuple[nn.Module, Mask]:
        """The last layer that reads the dimensions, and its mask."""
        return self.read.gate()

    def look(self, looking: bool) -> None:
        """Nothing: what is masked stays so."""
