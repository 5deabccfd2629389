"""The experts of a block as units: find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from students.families.families import family, unique_blocks
from students.structure.units import Slice, Units
from students.weights import raw_parameter

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def experts(model: PreTrainedModel) -> list[Units]:
    """Return the experts of every block that has some, named as in ``decoder.0.experts``; none if they are not known.

    The slices of an expert are its row in the router, which are the first ones, and its matrices and biases.
    """
    all_units = []
    for name, stack in family(model.config).stacks.items():
        parts = stack.experts
        for i, block in enumerate(unique_blocks(model)[name] if parts else []):
            modules = dict(block.named_modules())
            if parts.router not in modules or parts.experts not in modules:  # a block with a dense feed-forward
                continue
            slices = tuple(Slice(modules[path], key, axis, 1) for path, key, axis in parts.parameters)
            first = slices[0]
            all_units.append(
                Units(
                    f"{name}.{i}.experts",
                    raw_parameter(first.module, first.name).shape[first.axis],
                    slices,
                    {},
                    modules[parts.experts],
                    parts.num_outputs,
                    counters=(
                        *((modules[path], key, False) for path, key in parts.counters),
                        *((modules[path], key, True) for path, key in parts.limits),
                    ),
                )
            )
    return all_units


def has_experts(config: PretrainedConfig) -> bool:
    """Return whether the experts of a model's family are known."""
    return any(stack.experts for stack in family(config).stacks.values())
