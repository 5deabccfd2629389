"""What the code asks of a model family: its blocks, their number, the sizes that its config holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from students.families.parts import Family, Stack
from students.families.table import COMPACT, FAMILIES, RECURRENT

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def is_compact(config: PretrainedConfig) -> bool:
    """Whether this is the config of a model of a form that no stock one has."""
    return config.model_type.startswith(COMPACT)


def is_cut(config: PretrainedConfig) -> bool:
    """Return whether this is the config of a model that has lost units which its stock config cannot say."""
    return is_compact(config) and bool(config.sizes or config.built)


def is_recurrent(config: PretrainedConfig) -> bool:
    """Whether this is the config of a recurrent network: without attention, feed-forwards and a residual stream."""
    return config.model_type == RECURRENT


def family(config: PretrainedConfig) -> Family:
    """The facts of a model's family; those of the stock family for one of our compact models.

    Raises:
        ValueError: if the family is not known, naming those that are.
    """
    name = config.model_type.removeprefix(COMPACT)
    if name not in FAMILIES:
        raise ValueError(f"model family {name!r} is not known; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def depth(config: PretrainedConfig, stack: str | None = None) -> int:
    """The number of blocks of a stack (of the first one if none is named).

    Raises:
        ValueError: if the family has no such stack.
    """
    return getattr(config, find_stack(config, stack)[1].depth)


def find_stack(config: PretrainedConfig, stack: str | None = None) -> tuple[str, Stack]:
    """The name and the facts of a stack (of the first one if none is named).

    Raises:
        ValueError: if the family has no such stack.
    """
    stacks = family(config).stacks
    name = next(iter(stacks)) if stack is None else stack
    if name not in stacks:
        raise ValueError(f"stack: {config.model_type} has no {name!r}; it has {', '.join(stacks)}")
    return name, stacks[name]


def blocks(model: PreTrainedModel, stack: str | None = None) -> list[nn.Module]:
    """The blocks in the order in which they run; a block that runs several times (ALBERT) stands there as often."""
    modules = model.base_model.get_submodule(find_stack(model.config, stack)[1].blocks)
    count = depth(model.config, stack)
    return [modules[i * len(modules) // count] for i in range(count)]


def repeats_blocks(config: PretrainedConfig, stack: str | None = None) -> bool:
    """Return whether a block of a stack (of the first one if none is named) runs more than once (ALBERT)."""
    key = find_stack(config, stack)[1].groups
    return bool(key) and getattr(config, key) < depth(config, stack)


def intermediate_size(config: PretrainedConfig) -> int:
    """The number of feed-forward units of a block."""
    size = getattr(config, family(config).intermediate)
    return 4 * config.hidden_size if size is None else size


def width(config: PretrainedConfig, layer: int) -> int:
    """The width of the states of a layer; 0 is the input of the first block."""
    return config.hidden_size if layer else getattr(config, family(config).width)


def fix_head_size(config: PretrainedConfig) -> None:
    """Write the size of a head into a config that leaves it to the hidden size, where its family reads one: then it
    stays as it is, whatever the hidden size and the number of heads become.
    """
    key = family(config).head_size
    if key and getattr(config, key, None) is None:
        setattr(config, key, config.hidden_size // config.num_attention_heads)


def is_causal(config: PretrainedConfig, stack: str | None = None) -> bool:
    """Whether a stack of the model, or some stack if none is named, sees only what lies before."""
    return "decoder" in ([stack] if stack else family(config).stacks) or getattr(config, "is_decoder", False)


def has_places(config: PretrainedConfig) -> bool:
    """Whether the model has a table of positions, beyond which it cannot read."""
    return bool(family(config).positions)


def positions(config: PretrainedConfig) -> tuple[int, int]:
    """How many tokens the config has places for, and how many entries of a table of positions stand before them."""
    skipped = config.pad_token_id + 1 if family(config).position_offset else 0
    return config.max_position_embeddings - skipped, skipped
