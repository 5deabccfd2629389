"""Models whose blocks differ in size: read the sizes, and resize the blocks of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from students.families.families import unique_blocks
from students.structure.experts import experts
from students.structure.units import heads, neurons, shrink

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Sizes = dict[str, list[dict[str, int]]]
"""By stack, for each block: neurons (``intermediate``), key and value heads (``heads``; query heads if all share a
key), heads of cross-attention (``cross_heads``), and ``experts``; 0 if the whole branch is pruned."""

_KEYS = {"ffn": "intermediate", "self": "heads", "cross": "cross_heads", "experts": "experts"}


def block_sizes(model: PreTrainedModel, has_one_key: bool | None = None) -> Sizes:
    """Return the sizes of the blocks as they are; for ``has_one_key`` see ``units.heads``."""
    sizes: Sizes = {name: [{} for _ in blocks] for name, blocks in unique_blocks(model).items()}
    for units in neurons(model) + heads(model, has_one_key) + experts(model):
        for block_units in (units, *units.duplicates):
            stack, block, kind = block_units.name.split(".")
            sizes[stack][int(block)][_KEYS[kind]] = units.count
    return sizes


def resize_blocks(model: PreTrainedModel, sizes: Sizes) -> None:
    """Resize the blocks, in place, keeping the first units of each; before weights are loaded.

    Raises:
        ValueError: if ``block_sizes`` does not fit this model: other stacks or blocks, or more units than there are.
    """
    counts = {name: len(blocks) for name, blocks in unique_blocks(model).items()}
    if {name: len(blocks) for name, blocks in sizes.items()} != counts:
        raise ValueError(f"block_sizes: does not list the blocks of this {model.config.model_type}")
    for units in neurons(model) + heads(model) + experts(model):
        stack, block, kind = units.name.split(".")
        key = _KEYS[kind]
        count = sizes[stack][int(block)][key]
        for other_stack, other_block, _ in (duplicate.name.split(".") for duplicate in units.duplicates):
            if sizes[other_stack][int(other_block)][key] != count:
                name = f"{other_stack}.{other_block}.{kind}"
                raise ValueError(f"block_sizes: {name} runs the layers of {units.name} and has as many units")
        if not 0 <= count <= units.count:
            raise ValueError(f"block_sizes: {units.name} has {units.count} units, not {count}")
        if count < units.count:
            shrink(units, torch.arange(units.count, device="cpu") < count)
