"""Write the sizes of a pruned model into its config: a stock one if it can describe them."""

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


def record_sizes(model: PreTrainedModel, original_widths: dict[str, int] | None = None) -> None:
    """Write the sizes of the blocks into the config, after pruning.

    If a stock config can describe them, the model stays a stock model; otherwise it becomes compact.

    Args:
        model: the pruned model.
        original_widths: of ``structure.hidden.shrink_hidden``, if it was called.
    """
    config = model.config
    if not is_compact(config) and (stock := _stock_config(model, original_widths)):
        facts = family(config)
        for key in filter(None, (facts.intermediate, facts.head_size, "num_attention_heads", "num_key_value_heads")):
            if getattr(config, key, None) != getattr(stock, key, None):
                setattr(config, key, getattr(stock, key))
        return
    become_compact(model)
    config.block_sizes, config.original_widths = block_sizes(model), config.original_widths or original_widths
    config.ranks = get_ranks(model) if config.ranks else None


def _stock_config(model: PreTrainedModel, original_widths: dict[str, int] | None) -> PretrainedConfig | None:
    """Return the stock config of a model of exactly this shape, if there is one."""
    blocks = [dict(block) for stack in block_sizes(model).values() for block in stack]
    if any(block.pop("cross_heads", block["heads"]) != block["heads"] for block in blocks):
        return None
    config, facts = copy.deepcopy(model.config), family(model.config)
    fix_head_size(config)
    # A stock GPT-2 without neurons can be built, but cannot run.
    if any(block != blocks[0] for block in blocks) or 0 in blocks[0].values():
        return None
    if (
        original_widths
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
    shapes, stock_shapes = ({name: p.shape for name, p in m.named_parameters()} for m in (model, stock))
    stock_sizes = block_sizes(stock, has_one_key=groups == 1 < shared)
    return config if shapes == stock_shapes and block_sizes(model) == stock_sizes else None
