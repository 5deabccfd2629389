"""Cutting for good: neurons, heads, whole branches and hidden dimensions that are zero leave the tensors; the model
gets smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from prune_schedules.targets.norms import kept, release
from students.families.families import family, is_compact, is_recurrent
from students.structure.factored import rank_components
from students.structure.hidden import shrink_hidden
from students.structure.units import Units, heads, neurons, shrink

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COUNTED = "decoder.0.self"
"""The attention whose cached keys tell transformers how many tokens a decoder has seen; without heads it says none."""


@dataclass
class CutReport:
    """What was cut: of each set of units, as ``encoder.0.ffn`` or ``hidden``, how many there were and how many are
    left (0 where the branch is gone)."""

    units: dict[str, tuple[int, int]]
    skipped: dict[str, str]
    """Units that are zero and stay, with the reason."""
    parameters: tuple[int, int]
    """Before and after, tied ones counted once."""
    stock: bool
    """Whether plain transformers can load the result; otherwise ``import students`` is needed first."""


def alive(units: Units) -> Tensor:
    """Which units do something (bool [count]): those with any parameter that is not zero."""
    parts = [part.rows(getattr(part.module, part.name).detach() != 0, units.count) for part in units.slices]
    return torch.stack([part.any(dim=1) for part in parts]).any(dim=0)


def working(component: Units) -> Tensor:
    """Which rank-1 components of a layer in two factors do something (bool [count]): those that are made, as long as
    the layer has outputs.
    """
    made, sent = (part.rows(getattr(part.module, part.name).detach(), component.count) for part in component.slices)
    return (made != 0).any(dim=1) & bool(sent.shape[1])


def stays(model: PreTrainedModel, units: Units) -> bool:
    """Whether units cannot be cut: heads (a module keeps their number) whose layers share a position bias."""
    return family(model.config).relative_position_bias and bool(units.attributes) and not units.zero_bias


def cut(model: PreTrainedModel) -> CutReport:
    """Take out, in place, the neurons, heads and ranks whose parameters are all zero, after ``fold``, and the hidden
    dimensions that norms do not count, all of whose parameters are zero then.

    The outputs stay the same, given an activation with f(0) = 0, as gelu, relu, silu and tanh have. Where no unit
    of a set is left, the bias of the layer that read them is what the branch adds. Parameters are new tensors: an
    optimizer has to be made afterwards.

    Raises:
        ValueError: if the model still has steps on its weights.
    """
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise ValueError("the model still has steps on its weights: fold it before it is cut")
    before, report, skipped = model.num_parameters(), {}, {}
    for units in neurons(model) + heads(model):
        stay = stays(model, units)
        keep = alive(units)
        if units.name == COUNTED and units.count and not (stay or keep.any()):
            keep[0] = True
            skipped[units.name] = "1 head is zero but stays: by it a decoder counts the tokens it has written"
        gone = int((~keep).sum())
        report[units.name] = (units.count, units.count if stay else units.count - gone)
        if gone and stay:
            skipped[units.name] = f"{gone} heads are zero but stay: the layers share a position bias"
        elif gone:
            shrink(units, keep)
    for component in rank_components(model):
        keep = working(component)
        report[component.name] = (component.count, int(keep.sum()))
        if not keep.all():
            shrink(component, keep)
    counted, built = kept(model), None
    if counted is not None:
        report["hidden"] = (len(counted), int(counted.sum()))
        release(model)
        built = None if counted.all() else shrink_hidden(model, counted)
    if report:
        from students.models.record import record_sizes  # not above: a config is read without transformers

        record_sizes(model, built)
    stock = not (is_compact(model.config) or is_recurrent(model.config))
    return CutReport(report, skipped, (before, model.num_parameters()), stock)
