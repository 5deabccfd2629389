"""Lists of a config with an entry for each block: find them, and resize them with the blocks that are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from students.families.families import depth, family

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def layer_lists(config: PretrainedConfig, stack: str | None = None) -> dict[str, list[Any]]:
    """Return the per-layer lists of a config by key: attention types, windows, numbers of heads.

    These are the lists as long as the stack is deep. Left out are the keys that every config has (names of classes),
    token ids, and lists that keep their length in a config of another depth.

    Args:
        config: of the model.
        stack: by default the first one.
    """
    from transformers import PretrainedConfig  # not above: a config is read without transformers

    common, count = PretrainedConfig().to_dict(), depth(config, stack)
    lists = {
        key: list(value)
        for key, value in config.to_dict().items()
        if isinstance(value, list | tuple) and len(value) == count
        if key not in common and not key.endswith(("_token_id", "_token_ids"))
    }
    return {key: value for key, value in lists.items() if not _has_fixed_length(config, key, stack)}


def _has_fixed_length(config: PretrainedConfig, key: str, stack: str | None) -> bool:
    """Return whether a list of the family's default config keeps its length when a block is added."""
    depth_keys = [layer_stack.depth for layer_stack in family(config).stacks.values()]
    lengths = []
    for num_blocks in (1, 2):
        default = type(config)(**dict.fromkeys(depth_keys, num_blocks))
        value = getattr(default, key, None)
        lengths.append(len(value) if isinstance(value, list | tuple) else None)
    return lengths[0] == lengths[1] is not None


def select_layers(config: PretrainedConfig, layers: dict[str, list[int]]) -> None:
    """Set, in place, the depth and the per-layer lists of a config to those of selected blocks.

    Args:
        config: of the model from which blocks are taken.
        layers: by stack, the numbers of the blocks, from 1. A number outside the model takes the entry of the nearest
            block.
    """
    # All are read before one is written: the lists of one stack may be as long as another is deep then.
    lists = {stack: layer_lists(config, stack) for stack in layers}
    for stack, numbers in layers.items():
        count = depth(config, stack)
        setattr(config, family(config).stacks[stack].depth, len(numbers))
        for key, value in lists[stack].items():
            setattr(config, key, [value[min(max(number, 1), count) - 1] for number in numbers])
