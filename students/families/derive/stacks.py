"""Find the blocks of a model of any family: the module lists that grow with a number of layers in its config."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

FEW = 2
"""The number of blocks of a model that is only built to be looked at."""
_MAX_BLOCKS = 300


def find_stacks(config: PretrainedConfig) -> dict[str, str]:
    """Return by path in the base model each list of blocks, with the key of the config that holds its length.

    Models of two and three blocks are compared, without memory for their weights. Of several lists that grow with one
    key, the one with the most parameters holds the blocks.

    Raises:
        Exception: whatever the model's own code raises when it is built.
    """
    keys = depth_keys(config)
    few = _list_sizes(build_base(with_depths(config, dict.fromkeys(keys, FEW)), "meta"))
    stacks = {}
    for key in keys:
        depths = dict.fromkeys(keys, FEW) | {key: FEW + 1}
        try:
            more = _list_sizes(build_base(with_depths(config, depths), "meta"))
        except Exception:  # a number of layers that must fit another one, as in hybrids: not a key of its own
            continue
        grown = [path for path, (length, _) in few.items() if length == FEW and more.get(path, (0, 0))[0] == FEW + 1]
        if grown:
            stacks[max(grown, key=lambda path: few[path][1])] = key
    return stacks


def depth_keys(config: PretrainedConfig) -> list[str]:
    """Return the keys of a config that may hold a number of blocks."""
    numbers = {key: value for key, value in config.to_dict().items() if "layer" in key and type(value) is int}
    return [key for key, value in numbers.items() if 1 <= value <= _MAX_BLOCKS]


def with_depths(config: PretrainedConfig, depths: dict[str, int]) -> PretrainedConfig:
    """Return a copy of a config with other numbers of blocks; lists with an entry for each block follow."""
    changed = copy.deepcopy(config)
    for key, depth in depths.items():
        before = getattr(config, key)
        for name, value in vars(config).items():
            if isinstance(value, list | tuple) and len(value) == before and not name.endswith(_NOT_PER_BLOCK):
                setattr(changed, name, [value[min(i, before - 1)] for i in range(depth)])
        setattr(changed, key, depth)
    return changed


_NOT_PER_BLOCK = ("_token_id", "_token_ids", "architectures")


def build_base(config: PretrainedConfig, device: str) -> PreTrainedModel:
    """Build a model without a head, with random weights; on ``meta`` without any."""
    from transformers import AutoModel, AutoModelForCausalLM  # not above: a config is read without transformers

    with torch.device(device):
        model: PreTrainedModel
        if type(config) in AutoModel._model_mapping or type(config) not in AutoModelForCausalLM._model_mapping:
            model = AutoModel.from_config(config, trust_remote_code=False)
        else:  # a decoder that stands alone only under its head (TrOCR)
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False).base_model
    return model.eval()


def _list_sizes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return by path the length and the number of parameters of each module list."""
    lists = {path: module for path, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    return {path: (len(module), sum(p.numel() for p in module.parameters())) for path, module in lists.items()}
