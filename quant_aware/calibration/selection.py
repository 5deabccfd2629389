"""The choice of the weights that are quantized, and of their quantizers."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, get_args

from torch import nn

from quant_aware.quantizers.fake_quant import weight_axis
from quant_aware.quantizers.quantizer import Quantizer
from students.structure.places import Where, select_modules
from students.weights import parameter_names, raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def select_quantized(
    model: PreTrainedModel, weights: list[Quantizer], overrides: dict[str, Quantizer | None]
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Return the modules whose weight is quantized, by name, and the reason for each that is not.

    Args:
        model: the student.
        weights: the quantizers of all weights, by stage.
        overrides: by pattern of a weight's name, its own quantizer, or None for a weight that stays float32.

    Raises:
        ValueError: if a weight does not divide into the groups of its quantizer, or a pattern matches none.
    """
    selected, skipped = select_modules(model, list(get_args(Where)))
    for tied in _tied_embeddings(model, weights, overrides):
        selected |= tied
        for name in tied:
            skipped.pop(name, None)
    for pattern in overrides:
        matches = [name for name in (*selected, *skipped) if fnmatchcase(f"{name}.weight", pattern)]
        if not selected.keys() & set(matches):
            reasons = "".join(f"; {name} is {skipped[name]}" for name in matches)
            raise ValueError(f"overrides: no quantized weight matches {pattern!r}{reasons}")
    for name, module in selected.items():
        key, quantizers = quantizers_of(name, weights, overrides)
        for quantizer in quantizers:
            try:
                quantizer.to_groups(raw_parameter(module), weight_axis(module))
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        if not quantizers:
            skipped[name] = "left out by overrides"
    return {name: module for name, module in selected.items() if name not in skipped}, skipped


def quantizers_of(
    name: str, weights: list[Quantizer], overrides: dict[str, Quantizer | None]
) -> tuple[str, list[Quantizer]]:
    """Return the YAML key that sets the quantizers of a module's weight, and these quantizers, by stage."""
    for pattern, quantizer in overrides.items():
        if fnmatchcase(f"{name}.weight", pattern):
            return f"overrides: {pattern}", [quantizer] if quantizer else []
    return "weights", weights


def _tied_embeddings(
    model: PreTrainedModel, weights: list[Quantizer], overrides: dict[str, Quantizer | None]
) -> list[dict[str, nn.Module]]:
    """Return the modules, by name, of each tied weight that is quantized to the same values under all its names."""
    groups = []
    for names in parameter_names(model).values():
        if len(names) == 1 or not all(name.endswith(".weight") for name in names):
            continue
        users = {name.removesuffix(".weight"): model.get_submodule(name.rsplit(".", 1)[0]) for name in names}
        by_name = [quantizers_of(name, weights, overrides)[1] for name in users]
        are_matrices = all(isinstance(module, (nn.Linear, nn.Embedding)) for module in users.values())
        one_scale = any(quantizer.granularity == "tensor" and not quantizer.learn for quantizer in by_name[0])
        if are_matrices and all(quantizers == by_name[0] for quantizers in by_name) and not one_scale:
            groups.append(users)
    return groups
