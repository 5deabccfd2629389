"""Tiny models that have lost units, folded."""

from typing import ClassVar

from torch import nn

from prune_schedules.ranking import Scope
from students.structure.places import select_modules
from students.weights import add_weight_transform, fold, out_axis
from tests.helpers.families import tiny
from tests.helpers.pruning.models import without


class Grid(nn.Module):
    """Rounds each row to 127 steps of its largest entry, as int8 weights are."""

    order: ClassVar[int] = 1

    def __init__(self, axis: int):
        super().__init__()
        self.axis = axis

    def forward(self, weight):
        scale = weight.abs().amax(dim=1 - self.axis, keepdim=True).clamp(min=1e-8) / 127
        return weight + ((weight / scale).round() * scale - weight).detach()


def pruned(name: str, shares: dict[str, float], scope: Scope | None = None, grid: bool = False) -> nn.Module:
    """A tiny model that has lost these shares of its elements, neurons or heads, folded."""
    model = without(tiny(name), shares, scope)
    if grid:
        for module in select_modules(model, ["attention", "ffn"])[0].values():
            add_weight_transform(module, Grid(out_axis(module)))
    fold(model)
    return model
