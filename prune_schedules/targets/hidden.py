"""Hidden dimensions as a prune target: one set for the whole model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prune_schedules.targets.mask import Mask
from prune_schedules.targets.norms import attach
from prune_schedules.targets.target import ParameterRef, PruneTarget, TensorGetter
from prune_schedules.targets.units import UnitTarget
from students.structure.units import Units
from students.weights import get_weight_transforms, raw_parameter


class HiddenTarget(PruneTarget):
    """The hidden dimensions of a model, with masks on all parameters that write and read them, and masked norms.

    A masked dimension is not computed in a step that accumulates gradients, as a masked neuron or head is: losses on
    hidden states would see it. So it has no gradient.

    Args:
        writers: the dimensions in the parameters that write them.
        readers: the dimensions in the parameters that read them.
    """

    min_kept = 1

    def __init__(self, writers: Units, readers: Units):
        self.writers, self.readers = UnitTarget(writers), UnitTarget(readers)
        self.initial_count = writers.count
        weights = [part.module for part in writers.slices if part.name == "weight"]
        self.norms = [module for module in weights if raw_parameter(module).ndim == 1]
        for norm in self.norms:
            attach(norm)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return [hidden]."""
        return (self.initial_count,)

    @property
    def parameters(self) -> list[ParameterRef]:
        """Return all parameters that write and read the dimensions; a tied one once."""
        return _without_ties(self.writers.parameters + self.readers.parameters)

    @property
    def outgoing_masks(self) -> dict[ParameterRef, Mask]:
        """Return the masks on the parameters that read the dimensions."""
        return {parameter: self.readers.masks[parameter] for parameter in _without_ties(self.readers.parameters)}

    @property
    def reader(self) -> nn.Module:
        """Return the last layer that reads the dimensions."""
        return self.readers.reader

    def entries(self, get: TensorGetter) -> list[Tensor]:
        """Return the entries of each dimension, one tensor [hidden, entries] for each slice; of a tied one once."""
        return [*self._rows(self.writers, get), *self._rows(self.readers, get)]

    def outgoing_entries(self, get: TensorGetter) -> list[Tensor]:
        """Return the same of the parameters alone that read the dimensions, embeddings tied to the head included."""
        return self._rows(self.readers, get)

    def _rows(self, side: UnitTarget, get: TensorGetter) -> list[Tensor]:
        parameters = set(_without_ties(side.parameters))
        slices = [part for part in side.units.slices if (part.module, part.name) in parameters]
        return [part.rows(get(part.module, part.name), self.initial_count) for part in slices]

    def keep(self, kept: Tensor) -> None:
        """Mask all dimensions but the ``kept`` ones (bool [hidden])."""
        self.writers.keep(kept)
        self.readers.keep(kept)
        for norm in self.norms:
            masks = [step.mask for step in get_weight_transforms(norm) if isinstance(step, Mask)]
            norm.masked_norm.keep(torch.stack(masks).all(dim=0))

    def count_masked(self) -> tuple[int, int]:
        """Return the number of masked dimensions, and the number of all."""
        return self.writers.count_masked()

    def accumulate_gradients(self, enabled: bool) -> None:
        """Let gradients through the outgoing masks, or stop doing so; masked dimensions stay masked."""
        self.readers.accumulate_gradients(enabled)
        self.writers.accumulate_gradients(False)

    def suspend_mask(self) -> None:
        """Take the masks off for this training step."""
        self.writers.suspend_mask()
        self.readers.suspend_mask()

    def set_gates(self, gates: Tensor | None) -> None:
        """Multiply the parameters that read each dimension by its gate [hidden] in training; None ends it.

        A dimension with a gate of 0 is not written either.
        """
        self.readers.set_gates(gates)
        self.writers.set_gates(None if gates is None else (gates > 0).to(gates.dtype))


def _without_ties(parameters: list[ParameterRef]) -> list[ParameterRef]:
    """Return the parameters, each tied one only under its first name."""
    first: dict[int, ParameterRef] = {}
    for parameter in parameters:
        first.setdefault(id(raw_parameter(*parameter)), parameter)
    return list(first.values())
