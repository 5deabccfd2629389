"""Blocks that share layers: find which share, and let the blocks of a model share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from torch import nn

from students.families.families import blocks, family
from students.families.parts import LayerStack
from students.structure.places import attention_layers, ffn_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SharedModules = Literal["all", "attention", "ffn"]
"""The modules that are shared: whole blocks with their norms, or the linear layers of attention or feed-forward."""


class SharedLayersConfig(TypedDict):
    """The entry ``share_layers`` of a model's config."""

    shared_modules: SharedModules
    blocks: dict[str, list[int]]
    """By stack, for each block the index, from 0, of the first block that shares with it and whose layers both run."""


def share_layers(model: PreTrainedModel, config: SharedLayersConfig) -> None:
    """Let blocks run the layers of others, in place.

    Shared modules are the same objects under several names, so that each is trained, pruned, quantized and saved once.
    The blocks themselves stay: a decoder block knows its layer of the cache, and the first of T5 has the position bias.

    Raises:
        ValueError: if ``config`` does not fit this model.
    """
    for name, stack in family(model.config).stacks.items():
        stack_blocks, sources = blocks(model, name), config["blocks"].get(name, [])
        if len(stack_blocks) != len(sources) or any(not 0 <= j <= i or sources[j] != j for i, j in enumerate(sources)):
            raise ValueError(f"share_layers: does not list the blocks of this {model.config.model_type}")
        for i, source in enumerate(sources):
            for path in shared_module_paths(stack, stack_blocks[i], config["shared_modules"]) if i != source else ():
                stack_blocks[i].set_submodule(path, stack_blocks[source].get_submodule(path), strict=True)
    name_shared_layers(model)


def name_shared_layers(model: PreTrainedModel) -> None:
    """Register the shared parameters of each stack as tied, so that transformers saves each once.

    Call it again after a form that adds parameters to shared layers.
    """
    for stack in family(model.config).stacks.values():
        layers = model.base_model.get_submodule(stack.blocks)
        first_name: dict[int, str] = {}
        copies = {}
        for name, parameter in layers.named_parameters(remove_duplicate=False):
            source = first_name.setdefault(id(parameter), name)
            if source != name:
                copies[name] = source
        # On the layers, not on the model: transformers reads the keys of all modules, but ties again the weights of
        # those named at a model, which are one already; that would shorten the biases of GPT-2.
        if copies:
            layers._tied_weights_keys = copies


def shared_module_paths(stack: LayerStack, block: nn.Module, shared_modules: SharedModules) -> list[str]:
    """Return the paths, in a block, of the modules with parameters that are shared."""
    selected = set(block.modules())
    if shared_modules == "attention":
        selected = set(attention_layers(stack, block))
    elif shared_modules == "ffn":
        inner, outer = ffn_layers(stack, block)
        selected = {*inner, outer}
    return [
        path
        for path, module in block.named_modules()
        if module in selected and any(True for _ in module.parameters(False))
    ]


def group_shared_blocks(stack_blocks: list[nn.Module]) -> list[list[nn.Module]]:
    """Return the blocks of a stack, each once, grouped by shared layers."""
    groups: list[list[nn.Module]] = []
    for block in dict.fromkeys(stack_blocks):
        parameters = set(block.parameters())
        group = next((group for group in groups if parameters & set(group[0].parameters())), None)
        if group:
            group.append(block)
        else:
            groups.append([block])
    return groups
