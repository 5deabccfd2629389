"""The weights of a model, and the weight transforms (mask, fake quantization) on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from students.families.linear import is_conv1d, is_linear
from students.processes import full_tensor, is_sharded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TransformT = TypeVar("TransformT", bound=nn.Module)
SPARSITY_THRESHOLD = 0.05
"""A model counts as sparse from this ratio of zeros on; rounding to 8 bits alone makes 1 to 2 percent."""


def factor_modules(module: nn.Module) -> list[nn.Module]:
    """Return a linear layer or an embedding and, if it is low-rank (``structure.factored``), its other factor."""
    return [part for part in module.modules() if is_linear(part) or isinstance(part, nn.Embedding)]


def input_layer(layer: nn.Module) -> nn.Module:
    """Return the layer that takes the input of a linear layer: itself or, if it is low-rank, its ``input_factor``."""
    return getattr(layer, "input_factor", layer)


def out_axis(module: nn.Module) -> int:
    """Return the axis of ``weight`` along which the outputs lie: 0, but 1 in GPT-2's ``Conv1D``."""
    return 1 if is_conv1d(module) else 0


def in_axis(module: nn.Module) -> int:
    """Return the other axis, of the inputs of a linear layer or the dimensions of an embedding."""
    return 1 - out_axis(module)


@overload
def raw_parameter(module: nn.Module) -> nn.Parameter: ...
@overload
def raw_parameter(module: nn.Module, name: str) -> nn.Parameter | None: ...
def raw_parameter(module: nn.Module, name: str = "weight") -> nn.Parameter | None:
    """Return the parameter under the weight transforms; None if a layer has no bias."""
    if parametrize.is_parametrized(module, name):
        return module.parametrizations[name].original
    return getattr(module, name)


def full_parameter(module: nn.Module, name: str = "weight") -> Tensor:
    """Return the full tensor of ``raw_parameter``, gathered from all processes if it is sharded."""
    return full_tensor(raw_parameter(module, name))


def shard_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a tensor that all processes hold in full, sharded as ``other``, of the same shape, is."""
    if not is_sharded(other):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)


def parameter_names(model: nn.Module) -> dict[int, list[str]]:
    """Return the names of each parameter by its id; a tied one has several."""
    names: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            names.setdefault(id(parameter), []).append(_unparametrized(f"{path}.{key}"))
    return names


def _unparametrized(name: str) -> str:
    """Return the name of a weight or transform without the parts that parametrization adds."""
    return name.replace("parametrizations.", "").removesuffix(".original").removeprefix(".")


def add_weight_transform(module: nn.Module, transform: nn.Module, name: str = "weight") -> None:
    """Apply a transform to a weight (or bias) from now on, after the transforms that are there already.

    A transform is a module that takes a weight and returns one of the same shape; its class attribute ``order`` is its
    place (a mask 0, fake quantization 1). Transforms are part of the state dict: add them before a checkpoint is loaded
    and before the model is wrapped or sharded.

    Raises:
        ValueError: if a transform of a higher order is there already.
    """
    for other in get_weight_transforms(module, name):
        if other.order > transform.order:
            raise ValueError(f"{type(transform).__name__} must come before {type(other).__name__}: add it first")
    parametrize.register_parametrization(module, name, transform)


def remove_weight_transform(module: nn.Module, transform: nn.Module, name: str = "weight") -> None:
    """Remove one transform of a weight (or bias); the parameter and the other transforms stay, in their order."""
    chain = module.parametrizations[name]
    if len(chain) == 1:
        parametrize.remove_parametrizations(module, name, leave_parametrized=False)
    else:
        del chain[list(chain).index(transform)]


def get_weight_transforms(module: nn.Module, name: str = "weight") -> list[nn.Module]:
    """Return the transforms of a weight (or bias), in the order in which they apply."""
    return list(module.parametrizations[name]) if parametrize.is_parametrized(module, name) else []


def apply_weight_transforms(module: nn.Module, name: str, value: Tensor) -> Tensor:
    """Apply the transforms of a weight (or bias) to another value."""
    for transform in get_weight_transforms(module, name):
        value = transform(value)
    return value


def find_weight_transforms(model: nn.Module, kind: type[TransformT]) -> dict[str, TransformT]:
    """Return all transforms of a class, by weight name and index, as in ``classifier.weight.0``."""
    return {_unparametrized(name): module for name, module in model.named_modules() if isinstance(module, kind)}


def fold(model: nn.Module) -> None:
    """Replace each weight by the result of its transforms, and remove these; ties stay.

    Raises:
        ValueError: if the transforms of a tied weight's uses give different values, which one tensor cannot hold.
    """
    parametrized = {
        _unparametrized(f"{path}.{name}"): (module, name)
        for path, module in model.named_modules()
        if parametrize.is_parametrized(module)
        for name in module.parametrizations
    }
    names_by_parameter = parameter_names(model)
    with torch.no_grad():
        results = {key: getattr(module, name).detach().clone() for key, (module, name) in parametrized.items()}
        for key, (module, name) in parametrized.items():
            parameter = raw_parameter(module, name)
            for other in names_by_parameter[id(parameter)]:
                if not torch.equal(results.get(other, parameter), results[key]):
                    raise ValueError(f"{key} and {other} are one weight, but transforms give two values")
        for key, (module, name) in parametrized.items():
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)
            getattr(module, name).copy_(results[key])


def set_parameter(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter, under its transforms, by a tensor of another size, and adapt the sizes of its module.

    A linear layer without inputs becomes constant (``students.families.constant``).
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
        from students.families.constant import make_constant

        make_constant(module)


def count_nonzeros(model: PreTrainedModel) -> tuple[int, int]:
    """Return the number of nonzero entries of a model's weight matrices, and of all entries; tied ones once."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    return sum(int(torch.count_nonzero(p)) for p in matrices), sum(p.numel() for p in matrices)


def model_sparsity(model: PreTrainedModel) -> float:
    """Return the ratio of zeros in a model's weight matrices."""
    nonzeros, total = count_nonzeros(model)
    return 1 - nonzeros / max(total, 1)


def weight_matrices(model: nn.Module) -> dict[str, Tensor]:
    """Return the two-dimensional weights by the name of their module."""
    return {name.removesuffix(".weight"): p.detach() for name, p in model.named_parameters() if p.ndim == 2}
