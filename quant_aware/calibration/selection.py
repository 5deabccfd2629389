"""Which weights of a model are quantized, and on which grids, one after the other."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, get_args

from torch import nn

from quant_aware.quantizers.fake_quant import weight_axis
from quant_aware.quantizers.grids import Quantizer
from students.weights import Where, parameter_names, raw_parameter, select_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def quantized(
    model: PreTrainedModel, weights: list[Quantizer], mixed: dict[str, Quantizer | None]
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The modules that are quantized, by name, and what is left out and why.

    Args:
        model: the student.
        weights: the grids of all weights, one after the other.
        mixed: by pattern, the grids of those that have their own; None leaves a weight alone.

    Raises:
        ValueError: if a weight does not divide into the groups of its grid, or a pattern matches none.
    """
    chosen, skipped = select_modules(model, list(get_args(Where)))
    for tied in _tied(model, weights, mixed):
        chosen |= tied
        for name in tied:
            skipped.pop(name, None)
    for pattern in mixed:
        meant = [name for name in (*chosen, *skipped) if fnmatchcase(f"{name}.weight", pattern)]
        if not chosen.keys() & set(meant):
            why = "".join(f"; {name} is {skipped[name]}" for name in meant)
            raise ValueError(f"mixed: no weight that is quantized is called {pattern!r}{why}")
    for name, module in chosen.items():
        key, grids = grids_of(name, weights, mixed)
        for grid in grids:
            try:
                grid.divide(raw_parameter(module), weight_axis(module))
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        if not grids:
            skipped[name] = "left out by mixed"
    return {name: module for name, module in chosen.items() if name not in skipped}, skipped


def grids_of(name: str, weights: list[Quantizer], mixed: dict[str, Quantizer | None]) -> tuple[str, list[Quantizer]]:
    """The key that gives the weight of a module its grids, and which it will have one after the other."""
    for pattern, grid in mixed.items():
        if fnmatchcase(f"{name}.weight", pattern):
            return f"mixed: {pattern}", [grid] if grid else []
    return "weights", weights


def _tied(
    model: PreTrainedModel, weights: list[Quantizer], mixed: dict[str, Quantizer | None]
) -> list[dict[str, nn.Module]]:
    """The modules, by name, that use one weight and find the same values in it: a table of words and a head."""
    found = []
    for names in parameter_names(model).values():
        if len(names) == 1 or not all(name.endswith(".weight") for name in names):
            continue
        users = {name.removesuffix(".weight"): model.get_submodule(name.rsplit(".", 1)[0]) for name in names}
        grids = [grids_of(name, weights, mixed)[1] for name in users]
        tables = all(isinstance(module, (nn.Linear, nn.Embedding)) for module in users.values())
        one_scale = any(grid.per == "tensor" and not grid.learn for grid in grids[0])
        if tables and all(each == grids[0] for each in grids) and not one_scale:
            found.append(users)
    return found
