"""Look up the facts of a model's family: its blocks, their number, the sizes in its config."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from torch import nn

from students.families.derive.family import derive_family
from students.families.parts import AttentionParts, Family, LayerStack, Level
from students.families.table import COMPACT, FAMILIES, OWN

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def is_compact(config: PretrainedConfig) -> bool:
    """Return whether this is the config of a compact model (``students.models.compact``)."""
    return config.model_type.startswith(COMPACT)


def is_cut(config: PretrainedConfig) -> bool:
    """Return whether this is the config of a pruned model whose sizes do not fit a stock config."""
    return is_compact(config) and bool(config.block_sizes or config.original_widths)


def own_kind(config: PretrainedConfig) -> str:
    """Return what a model of ours without attention is called (a recurrent network); empty for any other model."""
    return OWN.get(config.model_type, "")


def is_own(config: PretrainedConfig) -> bool:
    """Return whether plain transformers has no such model: it is loaded after ``import students``."""
    return is_compact(config) or bool(own_kind(config))


def is_listed(config: PretrainedConfig) -> bool:
    """Return whether the facts of a model's family are in the table, and every technique is tested with it."""
    return config.model_type.removeprefix(COMPACT) in FAMILIES


def family(config: PretrainedConfig) -> Family:
    """Return the facts of a model's family: from the table, or derived; for a compact model, of the stock family."""
    name = config.model_type.removeprefix(COMPACT)
    if is_listed(config):
        return FAMILIES[name]
    if not is_compact(config):
        return derive_family(config)
    from transformers import CONFIG_MAPPING  # not above: a config is read without transformers

    return derive_family(config, CONFIG_MAPPING[name])


def require(config: PretrainedConfig, level: Level, key: str = "") -> dict[str, LayerStack]:
    """Return the stacks of a model's family, of which so much is known.

    Args:
        config: of the model.
        level: that is needed.
        key: of the setting that needs it, with which the message starts.

    Raises:
        ValueError: if less is known, naming what works, and why if the model's own code failed.
    """
    facts = family(config)
    if LEVELS.index(facts.level) < LEVELS.index(level):
        works = "; ".join(_WORKS[known] for known in LEVELS[: LEVELS.index(facts.level) + 1])
        raise ValueError(
            f"{key and f'{key}: '}this needs the level {level!r}, and a {config.model_type} has the level "
            f"{facts.level!r}: {works} work{facts.failure and f' (a tiny model of it failed: {facts.failure})'}"
        )
    return facts.stacks


LEVELS = get_args(Level)
_WORKS = {
    "outputs": "losses on outputs, pruning of elements and quantization",
    "hidden": "losses on hidden states, and students of fewer layers",
    "attention": "losses on attention",
}


def depth(config: PretrainedConfig, stack: str | None = None) -> int:
    """Return the number of blocks of a stack (by default the first one).

    Raises:
        ValueError: if the family has no such stack.
    """
    return getattr(config, find_stack(config, stack)[1].depth)


def find_stack(config: PretrainedConfig, stack: str | None = None) -> tuple[str, LayerStack]:
    """Return the name and the facts of a stack (by default the first one).

    Raises:
        ValueError: if the family has no such stack, or its stacks are not known.
    """
    stacks = require(config, "hidden")
    name = next(iter(stacks)) if stack is None else stack
    if name not in stacks:
        raise ValueError(f"stack: {config.model_type} has no {name!r}; it has {', '.join(stacks)}")
    return name, stacks[name]


def attention_parts(stack: LayerStack) -> dict[str, AttentionParts]:
    """Return by kind the attentions of a stack whose linear layers are known."""
    return {kind: parts for kind, parts in stack.attention.items() if isinstance(parts, AttentionParts)}


def is_watched(config: PretrainedConfig) -> bool:
    """Return whether the attention of a model is recorded by watching its code, not through its attention function."""
    return any(site.is_watched for stack in family(config).stacks.values() for site in stack.attention.values())


def attention_layers(config: PretrainedConfig, name: str) -> list[int]:
    """Return the layers that have an attention, from 1: all of a stack but in hybrids.

    Args:
        config: of the model.
        name: ``encoder``, ``decoder``, or ``cross`` of the decoder.
    """
    stack, kind = ("decoder", "cross") if name == "cross" else (name, "self")
    site = family(config).stacks[stack].attention.get(kind)
    return list(site.layers) if site and site.layers else [*range(1, depth(config, stack) + 1)]


def num_heads(config: PretrainedConfig) -> int:
    """Return the number of query heads in an attention of a model, which may not be that in its config (ConvBERT)."""
    sites = [site for stack in family(config).stacks.values() for site in stack.attention.values()]
    return config.num_attention_heads // max((site.head_ratio for site in sites), default=1)


def blocks(model: PreTrainedModel, stack: str | None = None) -> list[nn.Module]:
    """Return the blocks in the order in which they run; a block that runs several times (ALBERT) is repeated.

    Raises:
        ValueError: if the family has no such stack, or this model of it keeps its blocks elsewhere.
    """
    path = find_stack(model.config, stack)[1].blocks
    try:
        modules = model.base_model.get_submodule(path)
    except AttributeError:
        raise ValueError(f"the blocks of a {type(model).__name__} are not in {path!r} of its base model") from None
    count = depth(model.config, stack)
    return [modules[i * len(modules) // count] for i in range(count)]


def unique_blocks(model: PreTrainedModel) -> dict[str, list[nn.Module]]:
    """Return the blocks of each stack, each block once however often it runs (ALBERT has one)."""
    return {name: list(dict.fromkeys(blocks(model, name))) for name in family(model.config).stacks}


def repeats_blocks(config: PretrainedConfig, stack: str | None = None) -> bool:
    """Return whether a block of a stack (by default the first one) runs more than once (ALBERT)."""
    key = find_stack(config, stack)[1].groups
    return bool(key) and getattr(config, key) < depth(config, stack)


def intermediate_size(config: PretrainedConfig, stack: str | None = None) -> int:
    """Return the number of feed-forward neurons of a block of a stack (by default the first one)."""
    key = find_stack(config, stack)[1].intermediate
    size = getattr(config, key) if key else None
    return 4 * config.hidden_size if size is None else size


def hidden_width(config: PretrainedConfig, layer: int) -> int:
    """Return the width of a layer's hidden states; layer 0 is the input of the first block."""
    return config.hidden_size if layer else getattr(config, family(config).width)


def fix_head_size(config: PretrainedConfig) -> None:
    """Write the head size into a config that derives it from the hidden size, if its family has a key for it.

    The head size then stays fixed when the hidden size or the number of heads changes.
    """
    key = family(config).head_size
    if key and getattr(config, key, None) is None:
        setattr(config, key, config.hidden_size // config.num_attention_heads)


def is_causal(config: PretrainedConfig, stack: str | None = None) -> bool:
    """Return whether attention is causal in a stack, or in any stack if none is named."""
    return "decoder" in ([stack] if stack else family(config).stacks) or getattr(config, "is_decoder", False)


def has_position_embeddings(config: PretrainedConfig) -> bool:
    """Return whether the model has learned position embeddings, which limit the length of its input."""
    return bool(family(config).position_embeddings)


def position_counts(config: PretrainedConfig) -> tuple[int, int]:
    """Return the number of positions in a config, and the number of rows before the first one (RoBERTa's offset)."""
    offset = config.pad_token_id + 1 if family(config).position_offset else 0
    return config.max_position_embeddings - offset, offset
