"""Lists of a config with an entry for each block: which they are, and how they follow the blocks that are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from students.families.families import depth, family

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def layer_lists(config: PretrainedConfig, stack: str | None = None) -> dict[str, list[Any]]:
    """The lists of a config with an entry for each block of a stack (of the first one if none is named), by key: kinds
    of attention, windows, numbers of heads.

    They are those as long as the stack is deep, but for what every config has, as the names of classes, for numbers of
    tokens, and for what is as long in a config of another depth.
    """
    from transformers import PretrainedConfig  # not above: a config is read without transformers

    common, count = PretrainedConfig().to_dict(), depth(config, stack)
    found = {
        key: list(value)
        for key, value in config.to_dict().items()
        if isinstance(value, list | tuple) and len(value) == count
        if key not in common and not key.endswith(("_token_id", "_token_ids"))
    }
    return {key: value for key, value in found.items() if not _stays(config, key, stack)}


def _stays(config: PretrainedConfig, key: str, stack: str | None) -> bool:
    """Whether a list of a family is as long in its default config with one block more."""
    count = {name: part.depth for name, part in family(config).stacks.items()}
    lengths = []
    for more in (1, 2):
        default = type(config)(**dict.fromkeys(count.values(), more))
        value = getattr(default, key, None)
        lengths.append(len(value) if isinstance(value, list | tuple) else None)
    return lengths[0] == lengths[1] is not None


def select_layers(config: PretrainedConfig, taken: dict[str, list[int]]) -> None:
    """Give a config, in place, the blocks ``taken`` (from 1, by stack) in the place of its own: its depth, and of each
    list with an entry for each block the entries of these; where a number is that of no block, those of the nearest.
    """
    # All are read before one is written: the lists of one stack may be as long as another is deep then.
    lists = {stack: layer_lists(config, stack) for stack in taken}
    for stack, numbers in taken.items():
        count = depth(config, stack)
        setattr(config, family(config).stacks[stack].depth, len(numbers))
        for key, value in lists[stack].items():
            setattr(config, key, [value[min(max(number, 1), count) - 1] for number in numbers])
