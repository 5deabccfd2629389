"""Models whose blocks have sizes of their own: which they are, and how a model is brought to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from students.structure.units import heads, neurons, shrink, unique_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Sizes = dict[str, list[dict[str, int]]]
"""By stack, for each block: feed-forward units (``intermediate``), key and value heads (``heads``; query heads where
all share a key), and those of attention to the encoder (``cross_heads``); 0 of them where the whole branch is gone."""

_KEYS = {"ffn": "intermediate", "self": "heads", "cross": "cross_heads"}


def block_sizes(model: PreTrainedModel, has_one_key: bool | None = None) -> Sizes:
    """The sizes that the blocks really have; ``has_one_key`` as in ``heads``."""
    found: Sizes = {name: [{} for _ in blocks] for name, blocks in unique_blocks(model).items()}
    for units in neurons(model) + heads(model, has_one_key):
        for each in (units, *units.duplicates):
            stack, block, kind = each.name.split(".")
            found[stack][int(block)][_KEYS[kind]] = units.count
    return found


def resize_blocks(model: PreTrainedModel, wanted: Sizes) -> None:
    """Cut the blocks to ``wanted``, keeping the first units of each; before weights are loaded.

    Raises:
        ValueError: if ``wanted`` is not for this model: other stacks or blocks, or more units than there are.
    """
    blocks = {name: len(found) for name, found in unique_blocks(model).items()}
    if {name: len(found) for name, found in wanted.items()} != blocks:
        raise ValueError(f"sizes: do not name the blocks of this {model.config.model_type}")
    for units in neurons(model) + heads(model):
        stack, block, kind = units.name.split(".")
        key = _KEYS[kind]
        count = wanted[stack][int(block)][key]
        for other in (each.name.split(".") for each in units.duplicates):
            if wanted[other[0]][int(other[1])][key] != count:
                raise ValueError(f"sizes: {'.'.join(other)} runs the layers of {units.name} and has as many units")
        if not 0 <= count <= units.count:
            raise ValueError(f"sizes: {units.name} has {units.count} units, not {count}")
        if count < units.count:
            shrink(units, torch.arange(units.count, device="cpu") < count)
