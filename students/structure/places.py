"""The places of a model: which of its modules belong to attention, feed-forward, embeddings and head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import nn

from students.families.families import attention_parts, blocks, family, require
from students.families.linear import is_linear
from students.families.parts import LayerStack
from students.weights import factor_modules, parameter_names, raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Where = Literal["attention", "ffn", "embeddings", "head", "recurrence"]


def select_modules(model: PreTrainedModel, where: Sequence[Where]) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Return by name the modules whose ``weight`` belongs to a part of the model, and the skipped ones with the reason.

    ``attention`` and ``ffn`` are the linear layers of the blocks (``Conv1D`` included), ``recurrence`` those of
    recurrent blocks, ``embeddings`` the token, position and type embeddings, ``head`` all linear layers outside the
    blocks. A weight that two modules use is skipped, since a transform would have to give the same values in both. A
    weight without entries, whose neurons or heads are all pruned, is in neither.

    Below the level ``structure`` nothing tells ``attention`` from ``ffn``: together they are all linear layers of the
    blocks, or of the model without its head if its blocks are not known either.

    Raises:
        ValueError: if one of the two is wanted, and nothing tells it from the other.
    """
    names = {id(module): name for name, module in model.named_modules()}
    if len({"attention", "ffn"} & set(where)) == 1:
        require(model.config, "structure")
    groups, unknown = _groups(model)
    names_by_parameter, chosen, skipped = parameter_names(model), {}, {}
    for module in dict.fromkeys(module for group in where for module in groups[group]):
        if raw_parameter(module).numel() == 0:
            continue
        name = names[id(module)]
        others = [other for other in names_by_parameter[id(raw_parameter(module))] if other != f"{name}.weight"]
        if others:
            skipped[name] = f"tied to {', '.join(others)}"
        else:
            chosen[name] = module
    if {"attention", "ffn"} & set(where):
        skipped |= {names[id(module)]: "its place in the block is not known" for module in unknown}
        skipped |= dict.fromkeys(_tensor_names(model), "it is no matrix of a linear layer")
    return chosen, skipped


def _groups(model: PreTrainedModel) -> tuple[dict[str, list[nn.Module]], list[nn.Module]]:
    """Return the modules of each ``Where``, and the linear layers inside blocks that are in none."""
    inside, facts = {}, family(model.config)
    if not facts.stacks:
        inside |= dict.fromkeys(part for part in model.base_model.modules() if not isinstance(part, nn.Embedding))
    groups: dict[str, list[nn.Module]] = {"attention": [], "ffn": [], "recurrence": []}
    for name, stack in facts.stacks.items():
        for block in dict.fromkeys(blocks(model, name)):
            groups["attention"] += attention_layers(stack, block)
            if stack.ffn:
                inner, outer = ffn_layers(stack, block)
                groups["ffn"] += [*inner, outer]
            modules = dict(block.named_modules())
            groups["recurrence"] += [modules[path] for path in stack.recurrence if path in modules]
            inside |= dict.fromkeys(block.modules())
    outside = [module for module in model.modules() if module not in inside]
    groups["embeddings"] = [module for module in outside if isinstance(module, nn.Embedding)]
    groups = {where: [part for module in group for part in factor_modules(module)] for where, group in groups.items()}
    embeddings = {*groups["embeddings"]}
    groups["head"] = [module for module in outside if is_linear(module) and module not in embeddings]
    known = {*groups["attention"], *groups["ffn"], *groups["recurrence"]}
    unknown = [module for module in inside if is_linear(module) and module not in known]
    return (groups, unknown) if facts.level == "structure" else (groups | {"ffn": unknown}, [])


def _tensor_names(model: nn.Module) -> list[str]:
    """Return the names of the weights of three or more dimensions, as those of experts are."""
    return [name for name, parameter in model.named_parameters() if parameter.ndim > 2]


def attention_layers(stack: LayerStack, block: nn.Module) -> list[nn.Module]:
    """Return the linear layers of all attentions of a block, each once (a fused one holds three projections)."""
    known = attention_parts(stack).values()
    paths = [path for p in known for path in (*(layer.path for layer in (*p.queries, *p.keys)), p.output)]
    return [block.get_submodule(path) for path in dict.fromkeys(paths)]


def ffn_layers(stack: LayerStack, block: nn.Module) -> tuple[list[nn.Module], nn.Module]:
    """Return the inner layers of the feed-forward that this block has, each once, and the outer one."""
    modules = dict(block.named_modules())
    inner = dict.fromkeys(modules[layer.path] for layer in stack.ffn.inner if layer.path in modules)
    return [*inner], modules[stack.ffn.outer]
