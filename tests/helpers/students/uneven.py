"""Tiny models with blocks of different sizes."""

import torch

from students.families.families import family
from students.models.record import record_sizes
from students.structure.units import heads, neurons, shrink
from tests.helpers.families import tiny


def uneven(name: str) -> torch.nn.Module:
    """A tiny model that has lost 3 neurons of its first block, 6 of the next, and one head of the last."""
    model = tiny(name)
    for i, units in enumerate(neurons(model)):
        shrink(units, torch.arange(units.count) >= 3 * (i + 1))
    if not family(model.config).has_fixed_heads:
        shrink(heads(model)[-1], torch.arange(heads(model)[-1].count) != 1)
    record_sizes(model)
    return model
