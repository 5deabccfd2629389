"""Blocks that share layers: which of them run the same ones, and how a model is brought to that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from torch import nn

from students.families.families import blocks, family
from students.families.parts import LayerStack
from students.weights import attention_layers, ffn_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SharedModules = Literal["all", "attention", "ffn"]
"""What is shared: whole blocks, norms included, or the linear layers of their attentions or feed-forwards."""


class SharedLayersConfig(TypedDict):
    """What the config of a model says whose blocks share layers."""

    shared_modules: SharedModules
    blocks: dict[str, list[int]]
    """By stack, for each block, from 0, the first of those that share with it: its layers are run."""


def share_layers(model: PreTrainedModel, wanted: SharedLayersConfig) -> None:
    """Let blocks run the layers of others, in place.

    The modules that hold parameters are the same objects then, under as many names, so that each is trained, pruned,
    rounded and saved once. The blocks stay what they are: a decoder's know which of its cache is theirs, and the first
    of T5 alone has the position bias.

    Raises:
        ValueError: if ``wanted`` is not for this model.
    """
    for name, stack in family(model.config).stacks.items():
        own, sources = blocks(model, name), wanted["blocks"].get(name, [])
        if len(own) != len(sources) or any(not 0 <= j <= i or sources[j] != j for i, j in enumerate(sources)):
            raise ValueError(f"shared: does not name the blocks of this {model.config.model_type}")
        for i, source in enumerate(sources):
            for path in shared_module_paths(stack, own[i], wanted["shared_modules"]) if i != source else ():
                own[i].set_submodule(path, own[source].get_submodule(path), strict=True)
    name_shared_layers(model)


def name_shared_layers(model: PreTrainedModel) -> None:
    """Tell transformers which names of a stack's parameters are others' too, so that a file holds each once.

    To be called again after forms that add parameters to shared layers.
    """
    for stack in family(model.config).stacks.values():
        layers = model.base_model.get_submodule(stack.blocks)
        first_name: dict[int, str] = {}
        copies = {}
        for name, parameter in layers.named_parameters(remove_duplicate=False):
            source = first_name.setdefault(id(parameter), name)
            if source != name:
                copies[name] = source
        # transformers looks for it at all modules, and would also tie the weights of those named at a model, which are
        # one already: it shortens the biases of GPT-2 by that.
        if copies:
            layers._tied_weights_keys = copies


def shared_module_paths(stack: LayerStack, block: nn.Module, shared_modules: SharedModules) -> list[str]:
    """The paths, in a block, of the modules that are shared."""
    meant = set(block.modules())
    if shared_modules == "attention":
        meant = set(attention_layers(stack, block))
    elif shared_modules == "ffn":
        inner, outer = ffn_layers(stack, block)
        meant = {*inner, outer}
    return [
        path
        for path, module in block.named_modules()
        if module in meant and any(True for _ in module.parameters(False))
    ]


def group_shared_blocks(own: list[nn.Module]) -> list[list[nn.Module]]:
    """The blocks of a stack, each once, those that share layers in one list."""
    found: list[list[nn.Module]] = []
    for block in dict.fromkeys(own):
        parameters = set(block.parameters())
        group = next((group for group in found if parameters & set(group[0].parameters())), None)
        if group:
            group.append(block)
        else:
            found.append([block])
    return found
