"""Make the prune targets of what a pruner can remove."""

from __future__ import annotations

from torch import nn

from prune_schedules.targets.elements import ElementTarget
from prune_schedules.targets.experts import ExpertTarget
from prune_schedules.targets.hidden import HiddenTarget
from prune_schedules.targets.shapes import Shape, tile_size
from prune_schedules.targets.target import PruneTarget
from prune_schedules.targets.units import UnitTarget
from students.structure.units import Units


def make_targets(shape: Shape | list[int], prunable: list[nn.Module] | list[Units]) -> list[PruneTarget]:
    """Return the targets of a shape, which add masks to the model, all disabled.

    Args:
        shape: of what is removed.
        prunable: the result of ``shapes.find_prunable``.
    """
    if shape == "hidden":
        return [HiddenTarget(*prunable)]
    if shape == "experts":
        return [ExpertTarget(units) for units in prunable]
    if isinstance(prunable[0], Units):
        return [UnitTarget(units, min_kept=0 if shape == "layers" else 1) for units in prunable]
    return [ElementTarget(module, tile_size(shape)) for module in prunable]
