"""Writing the sizes of a model that has been cut into its config: the stock one where that can say them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from huggingface_hub.errors import StrictDataclassError

from students.families.families import family, fix_head_size, intermediate_size, is_compact
from students.models.compact import become_compact
from students.structure.factored import get_ranks
from students.structure.inherit import head_shape
from students.structure.resized import block_sizes

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def record_sizes(model: PreTrainedModel, built: dict[str, int] | None = None) -> None:
    """Write the sizes of the blocks into the config, after cutting; ``built`` are the widths before ``narrow``.

    Where a stock config can say them the model stays what it was; otherwise it becomes one of ours.
    """
    config, ours = model.config, is_compact(model.config)
    if not ours and (plain := _plain(model, built)):
        facts = family(config)
        for key in filter(None, (facts.intermediate, facts.head_size, "num_attention_heads", "num_key_value_heads")):
            if getattr(config, key, None) != getattr(plain, key, None):
                setattr(config, key, getattr(plain, key))
        return
    become_compact(model)
    config.block_sizes, config.original_widths = block_sizes(model), config.original_widths or built
    config.ranks = get_ranks(model) if config.ranks else None


def _plain(model: PreTrainedModel, built: dict[str, int] | None) -> PretrainedConfig | None:
    """The stock config of a model of this very shape, if there is one."""
    blocks = [dict(block) for stack in block_sizes(model).values() for block in stack]
    if any(block.pop("cross_heads", block["heads"]) != block["heads"] for block in blocks):
        return None
    config, facts = copy.deepcopy(model.config), family(model.config)
    fix_head_size(config)
    # Without neurons a stock GPT-2 can be made, and cannot run.
    if any(block != blocks[0] for block in blocks) or 0 in blocks[0].values():
        return None
    if (
        built
        and facts.scale_decoder_outputs
        and getattr(config, facts.scale_decoder_outputs)
        and model.get_output_embeddings() is not None
    ):
        return None
    if intermediate_size(config) != blocks[0]["intermediate"]:
        setattr(config, facts.intermediate, blocks[0]["intermediate"])
    groups, shared, _ = head_shape(config)
    if groups == 1 < shared:
        config.num_attention_heads = blocks[0]["heads"]
    else:
        config.num_attention_heads = blocks[0]["heads"] * shared
        if getattr(config, "num_key_value_heads", None):
            config.num_key_value_heads = blocks[0]["heads"]
    try:
        with torch.device("meta"):
            stock = type(model)(type(config).from_dict(config.to_dict()))
    except (ValueError, StrictDataclassError):  # the heads do not divide the hidden size
        return None
    shapes = [{name: p.shape for name, p in each.named_parameters()} for each in (model, stock)]
    return (
        config
        if shapes[0] == shapes[1] and block_sizes(model) == block_sizes(stock, has_one_key=groups == 1 < shared)
        else None
    )
