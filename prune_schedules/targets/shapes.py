"""In which shape a pruner removes: single weights, tiles, or units; where these are, and what may compete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from prune_schedules.ranking import Scope
from students.families.families import is_recurrent
from students.structure.factored import rank_components
from students.structure.hidden import hidden_units
from students.structure.units import Units, branch_type, branches, heads, neurons
from students.weights import Where, out_axis, parameter_names, raw_parameter, select_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Shape = Literal["elements", "neurons", "heads", "layers", "hidden", "ranks"]
_UNITS = {"neurons": (["ffn"], neurons), "heads": (["attention"], heads), "layers": (["attention", "ffn"], branches)}
_PLACES: list[Where] = list(get_args(Where))


def choose(shape: Shape | list[int], scope: Scope | None, where: list[Where] | None) -> tuple[Scope, list[Where]]:
    """The scope and the places that are meant, where one of them is not given.

    Raises:
        ValueError: if the three do not go together.
    """
    if scope is None:
        scope = "global" if shape in ("layers", "hidden") else "layer"
    if isinstance(shape, str) and shape not in get_args(Shape):
        raise ValueError(f"shape: {shape!r} is not one of {', '.join(get_args(Shape))}")
    if isinstance(shape, list) and (len(shape) != 2 or min(shape) < 1):
        raise ValueError(f"shape: {shape} are not the outputs and inputs of a tile, as in [4, 4]")
    named, group = get_args(get_args(Scope)[0]), isinstance(scope, int)
    if scope < 2 if group else scope not in named:
        raise ValueError(f"scope: {scope!r} is not one of {', '.join(named)}, nor a number above 1")
    parts = "hidden dimensions" if shape == "hidden" else str(shape)
    if shape in ("neurons", "heads", "layers", "hidden", "ranks") and (group or scope == "row"):
        raise ValueError(f"scope: {scope} is for weights; {parts} lie in no row")
    if shape in ("layers", "hidden") and scope != "global":
        raise ValueError(f"scope: {parts} are ranked over the whole model; it is global, not {scope}")
    if shape == "hidden":
        if where not in (None, _PLACES):
            raise ValueError("where: hidden dimensions run through the whole model; leave it out")
        return scope, [*_PLACES]
    homes = _UNITS[shape][0] if isinstance(shape, str) and shape in _UNITS else _PLACES
    where = [place for place in homes if place not in ("embeddings", "head")] if where is None else where
    if not where or set(where) - set(_PLACES):
        raise ValueError(f"where: {where} is not a choice of {', '.join(_PLACES)}")
    if set(where) - set(homes):
        raise ValueError(f"where: {parts} are in {' and '.join(homes)} only, not in {', '.join(where)}")
    return scope, where


def find(
    model: PreTrainedModel, shape: Shape | list[int], scope: Scope, where: list[Where]
) -> tuple[list[nn.Module] | list[Units], dict[str, nn.Module], dict[str, str]]:
    """What there is to remove: modules with a weight, or units (of hidden dimensions what makes and what reads them);
    the modules whose weight is concerned, by name; and what is left out, with the reason.

    Raises:
        ValueError: if the family of the model is not known, nothing is left to remove, or a weight does not divide
            into tiles or groups.
    """
    if isinstance(shape, str) and shape != "elements" and is_recurrent(model.config):
        raise ValueError(f"shape: {shape} are parts of transformers; of a recurrent network elements or tiles can go")
    if shape == "hidden":
        found, names = list(hidden_units(model)), {module: name for name, module in model.named_modules()}
        weights = [part.module for units in found for part in units.slices if part.name == "weight"]
        once = {id(raw_parameter(module)): module for module in weights}  # a tied one, or from hidden to hidden
        return found, {names[module]: module for module in once.values()}, {}
    if isinstance(shape, str) and shape in _UNITS:
        found, weights, skipped = _untied(
            model, [each for each in _UNITS[shape][1](model) if branch_type(each) in where]
        )
    elif shape == "ranks":
        chosen, skipped = select_modules(model, where)
        meant = [each for each in rank_components(model) if each.owner in chosen.values()]
        found, weights, _ = _untied(model, meant)
        if not found:
            raise ValueError("shape: no layer here is in two factors, as student.low_rank makes them")
    else:
        weights, skipped = select_modules(model, where)
        found = list(weights.values())
        for name, module in weights.items():
            _divides(name, raw_parameter(module).movedim(out_axis(module), 0).shape, tile(shape), scope)
    if not found:
        why = "".join(f"; {name} is left out, {reason}" for name, reason in skipped.items())
        raise ValueError(f"where: there is nothing to prune in {', '.join(where)}{why}")
    return found, weights, skipped


def tile(shape: Shape | list[int]) -> tuple[int, int]:
    """The outputs and inputs of what is removed of a weight at once."""
    return (1, 1) if shape == "elements" else tuple(shape)


def _divides(name: str, size: torch.Size, tile: tuple[int, int], scope: Scope) -> None:
    if any(n % t for n, t in zip(size, tile, strict=True)):
        tiles = f"tiles of {tile[0]} by {tile[1]}"
        raise ValueError(f"shape: {name}, {size[0]} outputs by {size[1]} inputs, does not divide into {tiles}")
    inputs = size[1] // tile[1]
    if isinstance(scope, int) and inputs % scope:
        raise ValueError(f"scope: the {inputs} inputs of {name} do not divide into groups of {scope}")


def _untied(model: PreTrainedModel, found: list[Units]) -> tuple[list[Units], dict[str, nn.Module], dict[str, str]]:
    """The units of which no number is used elsewhere, their modules by name, and the rest with the reason."""
    users, chosen, weights, skipped = parameter_names(model), [], {}, {}
    for units in (units for units in found if units.count):
        names = {part: users[id(raw_parameter(part.module, part.name))] for part in units.slices}
        shared = sorted({name for part in units.slices if len(names[part]) > 1 for name in names[part]})
        if shared:
            skipped[units.name] = f"tied: {', '.join(shared)}"
        else:
            chosen.append(units)
            weights |= {
                names[part][0].removesuffix(".weight"): part.module for part in units.slices if part.name == "weight"
            }
    return chosen, weights, skipped
