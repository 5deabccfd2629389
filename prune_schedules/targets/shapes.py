"""The shapes that a pruner can remove (weights, tiles, units), where they are, and which of them may compete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from prune_schedules.ranking import Scope
from students.families.families import own_kind, require
from students.structure.experts import experts, has_experts
from students.structure.factored import rank_components
from students.structure.hidden import hidden_units
from students.structure.places import Where, select_modules
from students.structure.units import Units, branch_type, branches, heads, neurons
from students.weights import out_axis, parameter_names, raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Shape = Literal["elements", "neurons", "heads", "layers", "hidden", "ranks", "experts"]
_UNITS = {
    "neurons": (["ffn"], neurons),
    "heads": (["attention"], heads),
    "layers": (["attention", "ffn"], branches),
    "experts": (["ffn"], experts),
}
_WHERE: list[Where] = list(get_args(Where))


def resolve(shape: Shape | list[int], scope: Scope | None, where: list[Where] | None) -> tuple[Scope, list[Where]]:
    """Return the scope and the places of a shape, with the defaults for those that are not given.

    Raises:
        ValueError: if the three cannot be combined.
    """
    if scope is None:
        scope = "global" if shape in ("layers", "hidden") else "layer"
    if isinstance(shape, str) and shape not in get_args(Shape):
        raise ValueError(f"shape: {shape!r} is not one of {', '.join(get_args(Shape))}")
    if isinstance(shape, list) and (len(shape) != 2 or min(shape) < 1):
        raise ValueError(f"shape: {shape} must be the outputs and inputs of a tile, as in [4, 4]")
    names, is_group = get_args(get_args(Scope)[0]), isinstance(scope, int)
    if scope < 2 if is_group else scope not in names:
        raise ValueError(f"scope: {scope!r} is not one of {', '.join(names)}, nor a number above 1")
    items = "hidden dimensions" if shape == "hidden" else str(shape)
    if isinstance(shape, str) and shape != "elements" and (is_group or scope == "row"):
        raise ValueError(f"scope: {scope} is for elements and tiles, not for {items}")
    if shape in ("layers", "hidden") and scope != "global":
        raise ValueError(f"scope: {items} are ranked over the whole model; it is global, not {scope}")
    if shape == "hidden":
        if where not in (None, _WHERE):
            raise ValueError("where: hidden dimensions run through the whole model; leave it out")
        return scope, [*_WHERE]
    allowed = _UNITS[shape][0] if isinstance(shape, str) and shape in _UNITS else _WHERE
    where = [place for place in allowed if place not in ("embeddings", "head")] if where is None else where
    if not where or set(where) - set(_WHERE):
        raise ValueError(f"where: {where} is not a choice of {', '.join(_WHERE)}")
    if set(where) - set(allowed):
        raise ValueError(f"where: {items} are in {' and '.join(allowed)} only, not in {', '.join(where)}")
    return scope, where


def find_prunable(
    model: PreTrainedModel, shape: Shape | list[int], scope: Scope, where: list[Where]
) -> tuple[list[nn.Module] | list[Units], dict[str, nn.Module], dict[str, str]]:
    """Find what a pruner can remove, without changing the model.

    Returns:
        Modules with a weight, or units (of hidden dimensions those that write and those that read them); the modules
        whose weight is pruned, by name; and the reason for each module or set of units that is left out, by name.

    Raises:
        ValueError: if too little is known of the model's family, nothing can be removed, or a weight does not divide
            into tiles or groups.
    """
    if isinstance(shape, str) and shape != "elements" and (own := own_kind(model.config)):
        raise ValueError(f"shape: a {own} has no {shape}; prune elements or tiles of it")
    if shape == "experts" and not has_experts(model.config):
        raise ValueError(f"shape: a {model.config.model_type} has no experts, or its experts are not known")
    if isinstance(shape, str) and shape not in ("elements", "ranks", "experts"):
        require(model.config, "structure", f"shape: {shape}")
    if shape == "hidden":
        found, names = list(hidden_units(model)), {module: name for name, module in model.named_modules()}
        modules = [part.module for units in found for part in units.slices if part.name == "weight"]
        # A weight is listed twice if it is tied, or goes from hidden to hidden.
        by_parameter = {id(raw_parameter(module)): module for module in modules}
        return found, {names[module]: module for module in by_parameter.values()}, {}
    if isinstance(shape, str) and shape in _UNITS:
        found, weights, skipped = _without_tied(
            model, [units for units in _UNITS[shape][1](model) if branch_type(units) in where]
        )
    elif shape == "ranks":
        selected, skipped = select_modules(model, where)
        factored = [units for units in rank_components(model) if units.owner in selected.values()]
        found, weights, _ = _without_tied(model, factored)
        if not found:
            raise ValueError("shape: ranks needs low-rank layers, as student.low_rank makes them; there is none")
    else:
        weights, skipped = select_modules(model, where)
        found = list(weights.values())
        for name, module in weights.items():
            size = raw_parameter(module).movedim(out_axis(module), 0).shape
            _check_divides(name, size, tile_size(shape), scope)
    if not found:
        reasons = "".join(f"; {name} is left out, {reason}" for name, reason in skipped.items())
        raise ValueError(f"where: there is nothing to prune in {', '.join(where)}{reasons}")
    return found, weights, skipped


def tile_size(shape: Shape | list[int]) -> tuple[int, int]:
    """Return the outputs and inputs of an item of a weight."""
    return (1, 1) if shape == "elements" else tuple(shape)


def _check_divides(name: str, size: torch.Size, tile: tuple[int, int], scope: Scope) -> None:
    if any(n % t for n, t in zip(size, tile, strict=True)):
        tiles = f"tiles of {tile[0]} by {tile[1]}"
        raise ValueError(f"shape: {name}, {size[0]} outputs by {size[1]} inputs, does not divide into {tiles}")
    inputs = size[1] // tile[1]
    if isinstance(scope, int) and inputs % scope:
        raise ValueError(f"scope: the {inputs} inputs of {name} do not divide into groups of {scope}")


def _without_tied(
    model: PreTrainedModel, candidates: list[Units]
) -> tuple[list[Units], dict[str, nn.Module], dict[str, str]]:
    """Return the units without tied parameters, their modules by name, and the reason for each of the others."""
    users, selected, weights, skipped = parameter_names(model), [], {}, {}
    for units in (units for units in candidates if units.count):
        names = {part: users[id(raw_parameter(part.module, part.name))] for part in units.slices}
        tied = sorted({name for part in units.slices if len(names[part]) > 1 for name in names[part]})
        if tied:
            skipped[units.name] = f"tied: {', '.join(tied)}"
        else:
            selected.append(units)
            weights |= {
                names[part][0].removesuffix(".weight"): part.module for part in units.slices if part.name == "weight"
            }
    return selected, weights, skipped
