"""Blocks that share layers: which of them run the same ones, and how a model is brought to that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from torch import nn

from students.families.families import Stack, blocks, family
from students.weights import attention_layers, ffn_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Share = Literal["all", "attention", "ffn"]
"""What is shared: whole blocks, norms included, or the linear layers of their attentions or feed-forwards."""


class Sharing(TypedDict):
    """What the config of a model says whose blocks share layers."""

    share: Share
    blocks: dict[str, list[int]]
    """By stack, for each block, from 0, the first of those that share with it: its layers are run."""


def share(model: PreTrainedModel, wanted: Sharing) -> None:
    """Let blocks run the layers of others, in place.

    The modules that hold parameters are the same objects then, under as many names, so that each is trained, pruned,
    rounded and saved once. The blocks stay what they are: a decoder's know which of its cache is theirs, and the first
    of T5 alone has the position bias.

    Raises:
        ValueError: if ``wanted`` is not for this model.
    """
    for name, stack in family(model.config).stacks.items():
        pile = model.base_model.get_submodule(stack.blocks)
        own, sources, copies = blocks(model, name), wanted["blocks"].get(name, []), {}
        if len(own) != len(sources) or any(not 0 <= j <= i or sources[j] != j for i, j in enumerate(sources)):
            raise ValueError(f"shared: does not name the blocks of this {model.config.model_type}")
        for i, source in enumerate(sources):
            for path in parts(stack, own[i], wanted["share"]) if i != source else ():
                layer = own[source].get_submodule(path)
                own[i].set_submodule(path, layer, strict=True)
                copies |= {f"{i}.{path}.{key}": f"{source}.{path}.{key}" for key, _ in layer.named_parameters()}
        # By this transformers leaves such names out of a file. It looks for it at all modules, and would also tie the
        # weights of those named at a model, which are one already: it shortens the biases of GPT-2 by that.
        pile._tied_weights_keys = copies


def parts(stack: Stack, block: nn.Module, share: Share) -> list[str]:
    """The paths, in a block, of the modules that are shared."""
    meant = set(block.modules())
    if share == "attention":
        meant = set(attention_layers(stack, block))
    elif share == "ffn":
        inner, outer = ffn_layers(stack, block)
        meant = {*inner, outer}
    return [
        path
        for path, module in block.named_modules()
        if module in meant and any(True for _ in module.parameters(False))
    ]


def sharing(own: list[nn.Module]) -> list[list[nn.Module]]:
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
