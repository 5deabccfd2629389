"""Cut units out of a tiny model, and prove that the rest computes what it computes with these units at zero."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.derive.units import Reader
from students.families.linear import is_conv1d

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Run = Callable[["PreTrainedModel"], Tensor]
"""Runs a model on one text, and returns its last hidden states."""


@torch.no_grad()
def cuts_exactly(
    model: PreTrainedModel,
    run: Run,
    blocks: str,
    reader: Reader,
    keep: Tensor,
    owner: str = "",
    attributes: dict[str, int] | None = None,
) -> bool:
    """Return whether units can be cut out of every block of a stack without another change of what it computes.

    Args:
        model: a tiny one, which stays as it is.
        run: runs it.
        blocks: path of the stack.
        reader: the units.
        keep: which of them stay, bool [count].
        owner: path in a block of a module that holds numbers of units.
        attributes: by its attribute, the number for each unit.
    """
    try:
        zeroed, smaller = copy.deepcopy(model), copy.deepcopy(model)
        for block in zeroed.get_submodule(blocks):
            for parameter, axis, kept in _entries(block, reader, keep):
                parameter.movedim(axis, 0)[~kept] = 0
        for block in smaller.get_submodule(blocks):
            for parameter, axis, kept in _entries(block, reader, keep):
                parameter.data = parameter.data.movedim(axis, 0)[kept].movedim(0, axis).contiguous()
            for path in {projection.path for projection in (*reader.same_token, *reader.all_tokens)} | {reader.path}:
                _adapt_size(block.get_submodule(path))
            for key, per_unit in (attributes or {}).items():
                setattr(block.get_submodule(owner), key, int(keep.sum()) * per_unit)
        states, expected = run(smaller), run(zeroed)
    except Exception:  # a block without these layers, or a size that the model's own code takes from elsewhere
        return False
    return states.shape == expected.shape and torch.allclose(states, expected, atol=1e-5)


def _entries(block: nn.Module, reader: Reader, keep: Tensor) -> list[tuple[nn.Parameter, int, Tensor]]:
    """Return each parameter of units with the axis along which they lie, and which entries belong to kept ones."""
    outputs: dict[nn.Module, Tensor] = {}
    for projection in (*reader.same_token, *reader.all_tokens):
        layer = block.get_submodule(projection.path)
        length = layer.weight.shape[1 if is_conv1d(layer) else 0]
        size = length // projection.parts
        kept = outputs.setdefault(layer, torch.ones(length, dtype=torch.bool))
        kept[projection.part * size :][:size] = keep.repeat_interleave(size // len(keep))
    entries = []
    for layer, kept in outputs.items():
        entries.append((layer.weight, 1 if is_conv1d(layer) else 0, kept))
        if layer.bias is not None:
            entries.append((layer.bias, 0, kept))
    layer = block.get_submodule(reader.path)
    axis = 0 if is_conv1d(layer) else 1
    entries.append((layer.weight, axis, keep.repeat_interleave(layer.weight.shape[axis] // len(keep))))
    return entries


def _adapt_size(layer: nn.Module) -> None:
    if is_conv1d(layer):
        layer.nx, layer.nf = layer.weight.shape
    else:
        layer.out_features, layer.in_features = layer.weight.shape
