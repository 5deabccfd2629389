"""Cutting: masked neurons, heads, branches, ranks, experts and hidden dimensions leave the tensors of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from prune_schedules.targets.norms import detach, kept_dimensions
from prune_schedules.targets.routers import detach_router, kept_experts
from students.families.families import is_own
from students.structure.experts import experts
from students.structure.factored import rank_components
from students.structure.hidden import shrink_hidden
from students.structure.units import Units, heads, neurons, shrink

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CACHE_COUNTER = "decoder.0.self"
"""The attention whose cached keys tell transformers how many tokens a decoder has seen; it must keep a head."""


NO_HEADS = "the code of the model fails without any"
FIXED_HEADS = "they are bound together, as by a position bias that the layers share"


@dataclass
class CutReport:
    """The result of ``cut``.

    Args:
        units: by name of a set of units, as ``encoder.0.ffn`` or ``hidden``, their number before and after (0 where
            the branch is gone).
        skipped: by name of a set of units, the reason why zero units of it stay.
        parameters: their number before and after, tied ones counted once.
        is_stock: whether plain transformers can load the result; otherwise ``import students`` is needed first.
    """

    units: dict[str, tuple[int, int]]
    skipped: dict[str, str]
    parameters: tuple[int, int]
    is_stock: bool


def nonzero_units(units: Units) -> Tensor:
    """Return which units have a parameter that is not zero, bool [count]."""
    rows = [part.rows(getattr(part.module, part.name).detach() != 0, units.count) for part in units.slices]
    return torch.stack([part.any(dim=1) for part in rows]).any(dim=0)


def nonzero_ranks(component: Units) -> Tensor:
    """Return which ranks of a low-rank layer have a nonzero first factor, bool [count]; none if it has no outputs."""
    first, second = (part.rows(getattr(part.module, part.name).detach(), component.count) for part in component.slices)
    return (first != 0).any(dim=1) & bool(second.shape[1])


def needs_one(units: Units) -> bool:
    """Return whether at least one of these units must stay."""
    return units.needs_one or units.name == CACHE_COUNTER


def cut(model: PreTrainedModel) -> CutReport:
    """Cut out, in place, units whose parameters are all zero, and the hidden dimensions and experts that are masked.

    The model must have been folded. Its outputs stay the same, given an activation with f(0) = 0, as gelu, relu, silu
    and tanh have. Where no unit of a set is left, the branch adds the bias of the layer that read them. Parameters are
    new tensors: an optimizer has to be made afterwards.

    Raises:
        ValueError: if the model still has parametrizations.
    """
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise ValueError("the model still has parametrizations: fold it before it is cut")
    before, report, skipped = model.num_parameters(), {}, {}
    for units in neurons(model) + heads(model):
        kept = nonzero_units(units)
        if needs_one(units) and units.count and not (units.is_fixed or kept.any()):
            kept[0] = True
            reason = "by it a decoder counts the tokens it has written" if units.name == CACHE_COUNTER else NO_HEADS
            skipped[units.name] = f"1 head is zero but stays: {reason}"
        zeros = int((~kept).sum())
        report[units.name] = (units.count, units.count if units.is_fixed else units.count - zeros)
        if zeros and units.is_fixed:
            skipped[units.name] = f"{zeros} heads are zero but stay: {FIXED_HEADS}"
        elif zeros:
            shrink(units, kept)
    for units in experts(model):
        kept = kept_experts(units)
        report[units.name] = (units.count, int(kept.sum()))
        detach_router(units)
        if not kept.all():
            shrink(units, kept)
    for component in rank_components(model):
        kept = nonzero_ranks(component)
        report[component.name] = (component.count, int(kept.sum()))
        if not kept.all():
            shrink(component, kept)
    dimensions, built = kept_dimensions(model), None
    if dimensions is not None:
        report["hidden"] = (len(dimensions), int(dimensions.sum()))
        detach(model)
        built = None if dimensions.all() else shrink_hidden(model, dimensions)
    if report:
        from students.models.record import record_sizes  # not above: a config is read without transformers

        record_sizes(model, built)
    is_stock = not is_own(model.config)
    return CutReport(report, skipped, (before, model.num_parameters()), is_stock)
