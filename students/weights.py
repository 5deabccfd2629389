"""Which weights of a model are meant, and the steps (mask, fake quantization) put on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from students.families.families import blocks, family
from students.families.linear import is_conv1d, is_linear
from students.families.parts import LayerStack
from students.processes import full_tensor, is_sharded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Where = Literal["attention", "ffn", "embeddings", "head", "recurrence"]
Kind = TypeVar("Kind", bound=nn.Module)
SPARSITY_THRESHOLD = 0.05
"""From this share of zeros on a model counts as sparse; rounding to eight bits leaves one or two hundredths."""


def select_modules(model: PreTrainedModel, where: list[Where]) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The modules whose ``weight`` is meant by ``where``, by name, and those left out, with the reason.

    ``attention`` and ``ffn`` are the linear layers of the blocks (GPT-2's ``Conv1D`` is one), ``recurrence`` those
    that hold the weights of recurrent ones, ``embeddings`` the tables of words, positions and types, ``head`` all
    linear layers outside the blocks. A weight used by two modules is left out: a step would have to give the same
    values in both; and one without entries, of neurons or heads that have all been cut, is not mentioned.

    Raises:
        ValueError: if the family of the model is not known.
    """
    names = {id(module): name for name, module in model.named_modules()}
    groups, unknown = _groups(model)
    users, chosen, skipped = parameter_names(model), {}, {}
    for module in dict.fromkeys(module for group in where for module in groups[group]):
        if raw_parameter(module).numel() == 0:
            continue
        name = names[id(module)]
        others = [other for other in users[id(raw_parameter(module))] if other != f"{name}.weight"]
        if others:
            skipped[name] = f"tied to {', '.join(others)}"
        else:
            chosen[name] = module
    if {"attention", "ffn"} & set(where):
        skipped |= {names[id(module)]: "its place in the block is not known" for module in unknown}
    return chosen, skipped


def _groups(model: PreTrainedModel) -> tuple[dict[str, list[nn.Module]], list[nn.Module]]:
    """The modules of each ``Where``, and the linear layers inside blocks that are in none."""
    inside = {}
    groups: dict[str, list[nn.Module]] = {"attention": [], "ffn": [], "recurrence": []}
    for name, stack in family(model.config).stacks.items():
        for block in dict.fromkeys(blocks(model, name)):
            groups["attention"] += attention_layers(stack, block)
            if stack.ffn:
                inner, outer = ffn_layers(stack, block)
                groups["ffn"] += [*inner, outer]
            there = dict(block.named_modules())
            groups["recurrence"] += [there[path] for path in stack.recurrence if path in there]
            inside |= dict.fromkeys(block.modules())
    outside = [module for module in model.modules() if module not in inside]
    groups["embeddings"] = [module for module in outside if isinstance(module, nn.Embedding)]
    groups = {where: [part for module in found for part in factor_modules(module)] for where, found in groups.items()}
    tables = {*groups["embeddings"]}
    groups["head"] = [module for module in outside if is_linear(module) and module not in tables]
    named = {*groups["attention"], *groups["ffn"], *groups["recurrence"]}
    return groups, [module for module in inside if is_linear(module) and module not in named]


def attention_layers(stack: LayerStack, block: nn.Module) -> list[nn.Module]:
    """The linear layers of all attentions of a block, each once (a fused one holds three projections)."""
    paths = [
        path
        for parts in stack.attention.values()
        for path in (parts.query.path, parts.key.path, parts.value.path, parts.output)
    ]
    return [block.get_submodule(path) for path in dict.fromkeys(paths)]


def ffn_layers(stack: LayerStack, block: nn.Module) -> tuple[list[nn.Module], nn.Module]:
    """The inner layers of the feed-forward that this block has, and the outer one."""
    modules = dict(block.named_modules())
    return [modules[path] for path in stack.ffn.inner if path in modules], modules[stack.ffn.outer]


def factor_modules(module: nn.Module) -> list[nn.Module]:
    """A linear layer or an embedding and, where it is in two factors (``structure.factored``), the other one."""
    return [part for part in module.modules() if is_linear(part) or isinstance(part, nn.Embedding)]


def input_layer(layer: nn.Module) -> nn.Module:
    """What reads the inputs of a linear layer: itself or, where it is in two factors, the first."""
    return getattr(layer, "input_factor", layer)


def out_axis(module: nn.Module) -> int:
    """The axis of ``weight`` along which the outputs lie: 0, but 1 in GPT-2's ``Conv1D``."""
    return 1 if is_conv1d(module) else 0


def in_axis(module: nn.Module) -> int:
    """The other one: along it lie the inputs of a linear layer, and the dimensions of an embedding."""
    return 1 - out_axis(module)


def raw_parameter(module: nn.Module, name: str = "weight") -> nn.Parameter | None:
    """The parameter itself, under whatever steps act on it; None where a layer has no bias."""
    if parametrize.is_parametrized(module, name):
        return module.parametrizations[name].original
    return getattr(module, name)


def full_parameter(module: nn.Module, name: str = "weight") -> Tensor:
    """The numbers of the parameter that ``raw_parameter`` gives, whole wherever they lie."""
    return full_tensor(raw_parameter(module, name))


def shard_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A tensor that all processes have whole, in shards if the other one is, which has its shape."""
    if not is_sharded(other):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)


def parameter_names(model: nn.Module) -> dict[int, list[str]]:
    """By the id of each parameter the names under which different modules use it; a tied one has several."""
    found: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            found.setdefault(id(parameter), []).append(_plain(f"{path}.{key}"))
    return found


def _plain(name: str) -> str:
    """The name of a weight or step as if there were no parametrization."""
    return name.replace("parametrizations.", "").removesuffix(".original").removeprefix(".")


def add_weight_transform(module: nn.Module, step: nn.Module, name: str = "weight") -> None:
    """Let ``step`` act on a weight (or bias) from now on, after the steps that are there already.

    A step is a module that takes a weight and returns one of the same shape. Its class says its place by
    ``order`` (a mask 0, fake quantization 1); several of one order may follow each other. Steps stand in the
    state dict: add them before a checkpoint is read and before the model is wrapped or sharded.

    Raises:
        ValueError: if a step that belongs behind this one is there already.
    """
    for other in get_weight_transforms(module, name):
        if other.order > step.order:
            raise ValueError(f"{type(step).__name__} must come before {type(other).__name__}: add it first")
    parametrize.register_parametrization(module, name, step)


def remove_weight_transform(module: nn.Module, step: nn.Module, name: str = "weight") -> None:
    """Take one step off a weight (or bias); the parameter and the other steps stay as they are, in their order."""
    chain = module.parametrizations[name]
    if len(chain) == 1:
        parametrize.remove_parametrizations(module, name, leave_parametrized=False)
    else:
        del chain[list(chain).index(step)]


def get_weight_transforms(module: nn.Module, name: str = "weight") -> list[nn.Module]:
    """The steps on a weight (or bias), in the order in which they act."""
    return list(module.parametrizations[name]) if parametrize.is_parametrized(module, name) else []


def apply_weight_transforms(module: nn.Module, name: str, value: Tensor) -> Tensor:
    """What the steps on a weight (or bias) make of a value in its place."""
    for step in get_weight_transforms(module, name):
        value = step(value)
    return value


def find_weight_transforms(model: nn.Module, kind: type[Kind]) -> dict[str, Kind]:
    """All steps of a class, by weight name and place in the chain, as in ``classifier.weight.0``."""
    return {_plain(name): step for name, step in model.named_modules() if isinstance(step, kind)}


def fold(model: nn.Module) -> None:
    """Write what the steps make of the weights into plain weights, and take the steps away; ties stay.

    Raises:
        ValueError: if steps give the uses of a tied weight different values, so that one tensor cannot hold
        them.
    """
    found = {
        _plain(f"{path}.{name}"): (module, name)
        for path, module in model.named_modules()
        if parametrize.is_parametrized(module)
        for name in module.parametrizations
    }
    users = parameter_names(model)
    with torch.no_grad():
        results = {key: getattr(module, name).detach().clone() for key, (module, name) in found.items()}
        for key, (module, name) in found.items():
            parameter = raw_parameter(module, name)
            for other in users[id(parameter)]:
                if not torch.equal(results.get(other, parameter), results[key]):
                    raise ValueError(f"{key} and {other} are one weight, but steps give two values")
        for key, (module, name) in found.items():
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)
            getattr(module, name).copy_(results[key])


def set_parameter(module: nn.Module, name: str, value: Tensor) -> None:
    """Put a tensor of another size in the place of a parameter, under the steps on it, and the sizes of its module
    right; a linear layer that reads nothing any more gives its bias.
    """
    parametrized = parametrize.is_parametrized(module, name)
    holder, key = (module.parametrizations[name], "original") if parametrized else (module, name)
    setattr(holder, key, nn.Parameter(value, requires_grad=getattr(holder, key).requires_grad))
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = raw_parameter(module).shape
    if is_conv1d(module):
        module.nx, module.nf = raw_parameter(module).shape
    if isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = raw_parameter(module).shape
    if isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(raw_parameter(module).shape)
    if is_linear(module) and raw_parameter(module).shape[1 - out_axis(module)] == 0:
        from students.constant import make_constant

        make_constant(module)


def count_nonzeros(model: PreTrainedModel) -> tuple[int, int]:
    """How many entries of a model's matrices are not zero, and how many there are; tied ones once."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    return sum(int(torch.count_nonzero(p)) for p in matrices), sum(p.numel() for p in matrices)


def model_sparsity(model: PreTrainedModel) -> float:
    """The share of the entries of a model's matrices that are zero."""
    there, total = count_nonzeros(model)
    return 1 - there / max(total, 1)


def weight_matrices(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of two dimensions by the name of their module."""
    return {name.removesuffix(".weight"): p.detach() for name, p in model.named_parameters() if p.ndim == 2}
