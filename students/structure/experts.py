"""The experts of a block as units: find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

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
                    buffers=tuple((modules[path], key, axis) for path, key, axis in parts.buffers),
                    fewest=parts.fewest,
                    counters=(
                        *((modules[path], key, False) for path, key in parts.counters),
                        *((modules[path], key, True) for path, key in parts.limits),
                    ),
                )
            )
    return all_units


def routed_weights(args: tuple, kwargs: dict[str, object], valid: Tensor, count: int, weighted: bool = True) -> Tensor:
    """Return for each expert the sum of the weights with which tokens are sent to it, float32 [count].

    Args:
        args: with which the module of the experts is called: hidden states, the chosen experts of each token [T, k],
            and their weights [T, k], in any order.
        kwargs: as ``args``.
        valid: where a token is not padding, bool, with T entries.
        count: the number of experts.
        weighted: whether a token counts by its weight, and not as one; where too few experts are left, hidden ones are
            chosen too, with a weight of 0, which does not count.
    """
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    (chosen,) = (value for value in tensors if not value.is_floating_point())
    (weights,) = (value for value in tensors if value.is_floating_point() and value.shape == chosen.shape)
    rows = valid.flatten()
    weights = weights.detach()[rows].to(torch.float32)
    weights = weights if weighted else (weights > 0).to(torch.float32)
    sums = torch.zeros(count, dtype=torch.float32, device=weights.device)
    return sums.index_add_(0, chosen[rows].flatten(), weights.flatten())


def has_experts(config: PretrainedConfig) -> bool:
    """Return whether the experts of a model's family are known."""
    return any(stack.experts for stack in family(config).stacks.values())
