"""Write the sizes of a pruned model into its config: a stock one if it can describe them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from huggingface_hub.errors import StrictDataclassError

from students.families.families import family, fix_head_size, intermediate_size, is_compact
from students.families.parts import ExpertParts, Family
from students.models.compact import become_compact
from students.structure.factored import get_ranks
from students.structure.inherit import head_shape
from students.structure.outputs import short_logits
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
        sizes = [key for stack in facts.stacks.values() for key in (stack.intermediate, stack.heads)]
        sizes += [key for parts in _expert_parts(facts) for key in (parts.num_experts, parts.per_token)]
        for key in filter(None, (*sizes, facts.head_size, "num_key_value_heads")):
            if getattr(config, key, None) != getattr(stock, key, None):
                setattr(config, key, getattr(stock, key))
        return
    become_compact(model)
    config.block_sizes, config.original_widths = block_sizes(model), config.original_widths or original_widths
    config.ranks = get_ranks(model) if config.ranks else None


def _stock_config(model: PreTrainedModel, original_widths: dict[str, int] | None) -> PretrainedConfig | None:
    """Return the stock config of a model of exactly this shape, if there is one."""
    config, facts, sizes = copy.deepcopy(model.config), family(model.config), block_sizes(model)
    fix_head_size(config)
    by_key: dict[str, set[int]] = {}
    for name, stack in facts.stacks.items():
        for kind, count in (item for block in sizes[name] for item in block.items()):
            keys = {"intermediate": stack.intermediate, "experts": stack.experts and stack.experts.num_experts}
            by_key.setdefault(keys.get(kind) or stack.heads, set()).add(count)
    # A stock GPT-2 without neurons can be built, but cannot run.
    if any(len(counts) > 1 or 0 in counts for counts in by_key.values()):
        return None
    groups, shared, _ = head_shape(config)
    for name, stack in facts.stacks.items():
        for (count,) in [by_key[stack.intermediate]] if stack.intermediate in by_key else []:
            if stack.intermediate and intermediate_size(config, name) != count:
                setattr(config, stack.intermediate, count)
        for (count,) in [by_key[stack.heads]] if stack.heads in by_key else []:
            setattr(config, stack.heads, count if groups == 1 else count * shared)
            if groups > 1 and getattr(config, "num_key_value_heads", None):
                config.num_key_value_heads = count
    for parts in _expert_parts(facts):
        for (count,) in [by_key[parts.num_experts]] if parts.num_experts in by_key else []:
            setattr(config, parts.num_experts, count)
            if parts.per_token:
                setattr(config, parts.per_token, min(count, getattr(config, parts.per_token)))
    try:
        with torch.device("meta"):
            stock = type(model)(type(config).from_dict(config.to_dict()))
    except (ValueError, StrictDataclassError):  # the heads do not divide the hidden size
        return None
    shapes, stock_shapes = ({name: p.shape for name, p in m.named_parameters()} for m in (model, stock))
    stock_sizes = block_sizes(stock, has_one_key=groups == 1 < shared)
    if shapes != stock_shapes or sizes != stock_sizes:
        return None
    return None if original_widths and not _computes_the_same(model, config) else config


@torch.no_grad()
def _computes_the_same(model: PreTrainedModel, config: PretrainedConfig) -> bool:
    """Return whether a model made of a config, with the weights of this one, computes what this one does.

    A scale may follow from the hidden size, and is another one in a model that was made narrower.
    """
    rebuilt = type(model)(copy.deepcopy(config)).to(model.device, model.dtype)
    rebuilt.load_state_dict(model.state_dict())
    logits = [short_logits(each) for each in (model, rebuilt)]
    return torch.allclose(*logits, rtol=1e-4, atol=1e-5)


def _expert_parts(facts: Family) -> list[ExpertParts]:
    return [stack.experts for stack in facts.stacks.values() if stack.experts]
