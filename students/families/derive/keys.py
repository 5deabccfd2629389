"""Find the keys of a config that hold the sizes of a model: of heads, neurons and hidden dimensions."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from students.families.derive.probe import text
from students.families.derive.stacks import build_base

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_NEURONS = ("inner", "intermediate", "ff", "mlp")
_HEAD_SIZES = ("head_dim", "d_kv", "kv_channels", "attention_head_size", "d_head")


def neurons_key(config: PretrainedConfig, blocks: str, reader: str, count: int) -> str | None:
    """Return the key that holds the number of neurons of a stack; None if there is none.

    A key may hold nothing (GPT-2's), if there are four times as many neurons as hidden dimensions then.

    Args:
        config: of a tiny model.
        blocks: path of the stack.
        reader: path of the layer that reads the neurons.
        count: the number of neurons.
    """
    is_default = count == 4 * config.hidden_size
    for key, value in config.to_dict().items():
        is_open = value is None and is_default and any(part in key for part in _NEURONS)
        if is_open or (type(value) is int and value == count):
            first = _first_block(config, {key: 2 * count}, blocks)
            if first is not None and _width(first, reader) == 2 * count:
                return key
    return None


def heads_key(config: PretrainedConfig, stack: str, blocks: str, reader: str, count: int, key_heads: int) -> str | None:
    """Return the key that holds the number of query heads of a stack; None if there is none.

    With half or twice as many, the heads are wider or narrower, or as wide as a key for their size says.

    Args:
        config: of a tiny model.
        stack: ``encoder`` or ``decoder``.
        blocks: path of the stack.
        reader: path of the layer that reads the heads.
        count: the number of query heads.
        key_heads: the number of heads of keys and values.
    """
    # Half as many divide the hidden size as well.
    factor = 0.5 if key_heads % 2 == 0 else 2
    grouped = {"num_key_value_heads": int(factor * key_heads)} if hasattr(config, "num_key_value_heads") else {}
    names = [key for key, value in config.to_dict().items() if "head" in key and value == count and type(value) is int]
    names = [key for key in names if key not in grouped]
    before = _first_block(config, {}, blocks)
    for key in sorted(names, key=lambda key: (stack not in key, "attention" not in key)):
        after = _first_block(config, {key: int(factor * count)} | grouped, blocks)
        if after is not None and (_width(after, reader), _numbers(after)) != (_width(before, reader), _numbers(before)):
            return key
    return None


def head_size_key(config: PretrainedConfig, blocks: str, reader: str, size: int) -> str:
    """Return the key that holds the size of a head; empty if there is none."""
    before = _first_block(config, {}, blocks)
    for key in _HEAD_SIZES:
        after = _first_block(config, {key: 2 * size}, blocks)
        if after is not None and _width(after, reader) == 2 * _width(before, reader):
            return key
    return ""


def joint_widths(config: PretrainedConfig, others: Iterable[str]) -> tuple[str, ...]:
    """Return the keys that have to change with the hidden size: without them a model gets other layers, or fails.

    Args:
        config: of a tiny model.
        others: keys that are known to hold something else.
    """
    hidden = config.attribute_map.get("hidden_size", "hidden_size")
    candidates = [
        key
        for key, value in config.to_dict().items()
        if type(value) is int and value == config.hidden_size and key not in (hidden, *others)
    ]
    names, joint = _parameter_names(config, {}), []
    for key in candidates:
        without = dict.fromkeys({hidden, *candidates} - {key}, 2 * config.hidden_size)
        if _parameter_names(config, without) != names:
            joint.append(key)
    return tuple(joint)


def _changed(config: PretrainedConfig, values: dict[str, int]) -> PretrainedConfig:
    changed = copy.deepcopy(config)
    for key, value in values.items():
        setattr(changed, key, value)
    return changed


def _first_block(config: PretrainedConfig, values: dict[str, int], blocks: str) -> nn.Module | None:
    """Return the first block of a model with other sizes, on the meta device; None if there is no such model."""
    try:
        return build_base(_changed(config, values), "meta").get_submodule(blocks)[0]
    except Exception:  # whatever a model's own code says of sizes that do not go together
        return None


def _parameter_names(config: PretrainedConfig, values: dict[str, int]) -> set[str] | None:
    """Return the names of the parameters of a classifier that runs, or of the base model; None if it does not."""
    from transformers import AutoModelForSequenceClassification

    changed = _changed(config, values)
    try:
        if type(config) not in AutoModelForSequenceClassification._model_mapping:
            return {name for name, _ in build_base(changed, "meta").named_parameters()}
        model = AutoModelForSequenceClassification.from_config(changed).eval()
        with torch.no_grad():
            model(input_ids=text(model))
    except Exception:
        return None
    return {name for name, _ in model.named_parameters()}


def _width(block: nn.Module, reader: str) -> int:
    """Return the number of inputs of a linear layer."""
    layer = block.get_submodule(reader)
    return layer.in_features if isinstance(layer, nn.Linear) else layer.nx


def _numbers(block: nn.Module) -> list[int]:
    """Return all numbers that the modules of a block hold in attributes."""
    return [value for module in block.modules() for value in vars(module).values() if type(value) is int]
