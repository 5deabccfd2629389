"""Low-rank linear layers and embeddings, W = A B: find them in a model, and replace full-rank ones.

A linear layer [out, in] becomes one of [out, rank] with a child ``input_factor``, [rank, in], that is applied first; an
embedding [tokens, size] becomes one of [tokens, rank] with a child ``output_factor``, [size, rank], that is applied
last. Both are plain torch layers under the old name: the bias, the rows of outputs and ties stay where they were, and
a hook that is registered later sees the input of each factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.families import unique_blocks
from students.recording.input_grams import damp
from students.structure.units import Slice, Units
from students.weights import in_axis, parameter_names, raw_parameter, set_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ranks = dict[str, list[dict[str, int]] | dict[str, int]]
"""By stack, for each block, the rank of each low-rank module by its path in the block; and under ``outside`` those of
other modules, by their path in the base model or, for the head, in the whole model."""


def truncated_svd(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the factors [m, rank] and [rank, n] whose product is nearest to a weight [m, n] (Eckart and Young 1936).

    They are ``U sqrt(S)`` and ``sqrt(S) V'`` of the largest singular values: of one scale, for one learning rate.
    """
    left, singular_values, right = torch.linalg.svd(weight, full_matrices=False)
    root = singular_values[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]


def input_weighted_svd(weight: Tensor, rank: int, gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of a weight [m, n] that keep the layer's outputs for inputs X [N, n] nearest, of one scale.

    The best projection of the outputs is onto their ``rank`` strongest directions U, so the product is ``U U' W``. This
    equals the truncation of ``W L`` with ``L L' = X'X`` (DRONE: Chen 2021; SVD-LLM: Wang 2024, arXiv 2403.07378).

    Args:
        weight: [m, n].
        rank: of the factors.
        gram: ``X'X`` [n, n], which is damped here.
    """
    weight_64 = weight.double()
    basis, rest = torch.linalg.qr(weight_64)  # all outputs lie in the span of this basis
    strongest = torch.linalg.eigh(rest @ damp(gram) @ rest.T).eigenvectors.flip(1)[:, :rank]
    left = basis @ strongest
    right = left.T @ weight_64
    root = right.norm(dim=1).sqrt().clamp(min=1e-12)
    return (left * root).to(weight.dtype), (right / root[:, None]).to(weight.dtype)


def rank_of(module: nn.Module) -> int | None:
    """Return the rank of a low-rank layer or embedding; None for any other module."""
    return (
        raw_parameter(module).shape[in_axis(module)]
        if hasattr(module, "input_factor") or hasattr(module, "output_factor")
        else None
    )


def split_into_factors(module: nn.Module, rank: int) -> None:
    """Make a linear layer (``Conv1D`` too) or an embedding low-rank, in place; its weights are still to be set."""
    weight, axis = raw_parameter(module), in_axis(module)
    size, options = weight.shape[axis], {"device": weight.device, "dtype": weight.dtype}
    if isinstance(module, nn.Embedding):
        thin = module.output_factor = nn.Linear(rank or 1, size, bias=False, **options)
        module.register_forward_hook(_apply_output_factor)
    else:
        thin = module.input_factor = nn.Linear(size, rank or 1, bias=False, **options)
        module.register_forward_pre_hook(_apply_input_factor)
    set_parameter(module, "weight", weight.detach().narrow(axis, 0, rank).clone())
    if rank == 0:  # a pruned branch; torch warns of layers that are created empty
        set_parameter(
            thin, "weight", thin.weight.detach().narrow(int(thin is getattr(module, "output_factor", None)), 0, 0)
        )


def _apply_input_factor(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (layer.input_factor(args[0]), *args[1:])


def _apply_output_factor(embedding: nn.Embedding, args: tuple[Tensor, ...], rows: Tensor) -> Tensor:
    return embedding.output_factor(rows)


@torch.no_grad()
def decompose(modules: list[nn.Module], rank: int, gram: Tensor | None = None) -> None:
    """Replace one weight by its best low-rank factors, in place, in all layers and embeddings that use it; ties stay.

    Args:
        modules: that use the weight.
        rank: of the factors.
        gram: ``X'X`` of the layer's inputs, for factors that keep its outputs nearest; without it, its weight.
    """
    first = modules[0]
    is_transposed = in_axis(first) == 0
    weight = raw_parameter(first).T if is_transposed else raw_parameter(first)
    left, right = truncated_svd(weight, rank) if gram is None else input_weighted_svd(weight, rank, gram)
    for module in modules:
        split_into_factors(module, rank)
        thin = module.output_factor if isinstance(module, nn.Embedding) else module.input_factor
        thin.weight.copy_(right.T if isinstance(module, nn.Embedding) else right)
        if module is first:
            module.weight.copy_(left.T if is_transposed else left)
        module.weight = first.weight


def apply_ranks(model: PreTrainedModel, ranks: Ranks) -> None:
    """Make the modules in ``get_ranks`` low-rank, in place, before weights are loaded.

    A head that is listed and that this model lacks is ignored.

    Raises:
        ValueError: if ``get_ranks`` does not fit this model.
    """
    stacks = unique_blocks(model)
    if {name: len(blocks) for name, blocks in ranks.items() if name != "outside"} != {
        name: len(blocks) for name, blocks in stacks.items()
    }:
        raise ValueError(f"ranks: do not list the blocks of this {model.config.model_type}")
    pairs = [pair for name in stacks for pair in zip(stacks[name], ranks[name], strict=True)]
    entries = [(dict(block.named_modules()), path, rank) for block, paths in pairs for path, rank in paths.items()]
    outside = {path: module for module, path in _outside(model).items()}
    entries += [(outside, path, rank) for path, rank in ranks["outside"].items() if path in outside]
    for modules, path, rank in entries:
        if path not in modules or rank < 0:
            raise ValueError(f"ranks: there is no {path} of rank {rank} in this {model.config.model_type}")
        if rank_of(modules[path]) != rank:  # the inner model of Llama's classifier is low-rank already
            split_into_factors(modules[path], rank)
    tie_factors(model)


def tie_factors(model: PreTrainedModel) -> None:
    """Tie the ``output_factor`` of tied token embeddings, and tie again the weights that splitting has untied."""
    tied = {}
    for target, source in model.all_tied_weights_keys.items():
        first, other = (model.get_submodule(name.rpartition(".")[0]) for name in (source, target))
        if hasattr(first, "output_factor") and hasattr(other, "output_factor"):
            other.output_factor = first.output_factor
            tied[f"{target.removesuffix('weight')}output_factor.weight"] = (
                f"{source.removesuffix('weight')}output_factor.weight"
            )
    if tied:  # transformers saves each of these once
        model._tied_weights_keys = (model._tied_weights_keys or {}) | tied
        model.all_tied_weights_keys |= tied
    # Not from the class: its keys still name embeddings that are a tensor train now.
    model.tie_weights(recompute_mapping=False)


def get_ranks(model: PreTrainedModel) -> Ranks:
    """Return the ranks of a model's low-rank layers and embeddings as they are."""
    ranks: Ranks = {
        name: [_ranks_by_path({module: path for path, module in block.named_modules()}) for block in blocks]
        for name, blocks in unique_blocks(model).items()
    }
    return ranks | {"outside": _ranks_by_path(_outside(model))}


def _ranks_by_path(paths: dict[nn.Module, str]) -> dict[str, int]:
    ranks = {path: rank_of(module) for module, path in paths.items()}
    return {path: rank for path, rank in ranks.items() if rank is not None}


def _outside(model: PreTrainedModel) -> dict[nn.Module, str]:
    """Return the paths of all modules outside the blocks, in the base model if they are in it."""
    inside = {module for blocks in unique_blocks(model).values() for block in blocks for module in block.modules()}
    paths = {module: path for part in (model, model.base_model) for path, module in part.named_modules()}
    return {module: path for module, path in paths.items() if module not in inside}


def rank_components(model: PreTrainedModel) -> list[Units]:
    """Return the rank-1 components of each low-rank layer and embedding, named as the module; not of tied ones."""
    names_by_parameter, components = parameter_names(model), []
    for name, module in model.named_modules():
        rank = rank_of(module)
        if rank is None or len(names_by_parameter[id(raw_parameter(module))]) > 1:
            continue
        weight = Slice(module, "weight", in_axis(module), 1)
        if isinstance(module, nn.Embedding):
            slices = (weight, Slice(module.output_factor, "weight", 1, 1))
        else:
            slices = (Slice(module.input_factor, "weight", 0, 1), weight)
        components.append(Units(name, rank, slices, {}, module))
    return components
