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

from students.recording.input_grams import damp
from students.structure.units import Slice, Units, unique_blocks
from students.weights import in_axis, parameter_names, raw_parameter, set_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ranks = dict[str, list[dict[str, int]] | dict[str, int]]
"""By stack, for each block, the ranks of what is in two factors in it, by path; and by ``outside`` those of other
layers and embeddings, by their path in the base model, or in the whole one where they are of its head."""


def truncated_svd(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The factors [m, rank] and [rank, n] whose product is nearest to a weight [m, n] (Eckart and Young 1936).

    ``U sqrt(S)`` and ``sqrt(S) V'`` of the largest singular values: both of one size, for one learning rate.
    """
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = values[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]


def input_weighted_svd(weight: Tensor, rank: int, gram: Tensor) -> tuple[Tensor, Tensor]:
    """The factors whose product ``W'`` makes of inputs X [N, n] what is nearest to their ``X W'``, of one size again.

    ``gram`` is ``X'X``, damped here. Of outputs that are projected to the ``rank`` strongest directions U of them all
    least is lost, so ``W' = U U' W``; it is the ``W'`` that truncates ``W L``, where ``L L' = X'X`` (DRONE: Chen 2021;
    SVD-LLM: Wang 2024, arXiv 2403.07378).
    """
    whole = weight.double()
    basis, rest = torch.linalg.qr(whole)  # a weight has no outputs but in these directions
    strongest = torch.linalg.eigh(rest @ damp(gram) @ rest.T).eigenvectors.flip(1)[:, :rank]
    left = basis @ strongest
    right = left.T @ whole
    root = right.norm(dim=1).sqrt().clamp(min=1e-12)
    return (left * root).to(weight.dtype), (right / root[:, None]).to(weight.dtype)


def rank_of(module: nn.Module) -> int | None:
    """The rank of a layer or embedding in two factors; None of any other module."""
    return (
        raw_parameter(module).shape[in_axis(module)]
        if hasattr(module, "input_factor") or hasattr(module, "output_factor")
        else None
    )


def split_into_factors(module: nn.Module, rank: int) -> None:
    """Let a linear layer (GPT-2's ``Conv1D`` too) or an embedding be two, in place, with numbers still to be given."""
    weight, axis = raw_parameter(module), in_axis(module)
    size, place = weight.shape[axis], {"device": weight.device, "dtype": weight.dtype}
    if isinstance(module, nn.Embedding):
        thin = module.output_factor = nn.Linear(rank or 1, size, bias=False, **place)
        module.register_forward_hook(_make)
    else:
        thin = module.input_factor = nn.Linear(size, rank or 1, bias=False, **place)
        module.register_forward_pre_hook(_read)
    set_parameter(module, "weight", weight.detach().narrow(axis, 0, rank).clone())
    if rank == 0:  # of a branch that was cut out; torch complains of a layer that is made with nothing in it
        set_parameter(
            thin, "weight", thin.weight.detach().narrow(int(thin is getattr(module, "output_factor", None)), 0, 0)
        )


def _read(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (layer.input_factor(args[0]), *args[1:])


def _make(table: nn.Embedding, args: tuple[Tensor, ...], rows: Tensor) -> Tensor:
    return table.output_factor(rows)


@torch.no_grad()
def decompose(modules: list[nn.Module], rank: int, gram: Tensor | None = None) -> None:
    """Let layers and embeddings that use one weight be two factors of it, as near as this rank allows; ties stay.

    With ``gram``, the ``X'X`` of a layer's inputs, near in what it makes of these, and else in its numbers.
    """
    first = modules[0]
    turned = in_axis(first) == 0
    weight = raw_parameter(first).T if turned else raw_parameter(first)
    left, right = truncated_svd(weight, rank) if gram is None else input_weighted_svd(weight, rank, gram)
    for module in modules:
        split_into_factors(module, rank)
        thin = module.output_factor if isinstance(module, nn.Embedding) else module.input_factor
        thin.weight.copy_(right.T if isinstance(module, nn.Embedding) else right)
        if module is first:
            module.weight.copy_(left.T if turned else left)
        module.weight = first.weight


def apply_ranks(model: PreTrainedModel, wanted: Ranks) -> None:
    """Bring what ``wanted`` names to two factors, in place, before weights are loaded; a head that is named and that
    this model has not, is passed by.

    Raises:
        ValueError: if ``wanted`` is not for this model.
    """
    blocks = unique_blocks(model)
    if {name: len(found) for name, found in wanted.items() if name != "outside"} != {
        name: len(found) for name, found in blocks.items()
    }:
        raise ValueError(f"ranks: do not name the blocks of this {model.config.model_type}")
    pairs = [pair for name in blocks for pair in zip(blocks[name], wanted[name], strict=True)]
    found = [(dict(block.named_modules()), path, rank) for block, paths in pairs for path, rank in paths.items()]
    outside = {path: module for module, path in _outside(model).items()}
    found += [(outside, path, rank) for path, rank in wanted["outside"].items() if path in outside]
    for modules, path, rank in found:
        if path not in modules or rank < 0:
            raise ValueError(f"ranks: there is no {path} of rank {rank} in this {model.config.model_type}")
        if rank_of(modules[path]) != rank:  # of Llama's classifier the inner model has been brought to it already
            split_into_factors(modules[path], rank)
    tie_factors(model)


def tie_factors(model: PreTrainedModel) -> None:
    """Let the tables of words that are one weight have one ``output_factor``, and tie what splitting has untied."""
    same = {}
    for target, source in model.all_tied_weights_keys.items():
        one, other = (model.get_submodule(name.rpartition(".")[0]) for name in (source, target))
        if hasattr(one, "output_factor") and hasattr(other, "output_factor"):
            other.output_factor = one.output_factor
            same[f"{target.removesuffix('weight')}output_factor.weight"] = (
                f"{source.removesuffix('weight')}output_factor.weight"
            )
    if same:  # by these transformers knows what is in a file once
        model._tied_weights_keys = (model._tied_weights_keys or {}) | same
        model.all_tied_weights_keys |= same
    # The keys at hand: those of the classes still name embeddings that are a tensor train now.
    model.tie_weights(recompute_mapping=False)


def get_ranks(model: PreTrainedModel) -> Ranks:
    """The ranks that the layers and embeddings of a model really have."""
    found: Ranks = {
        name: [_ranks({module: path for path, module in block.named_modules()}) for block in blocks]
        for name, blocks in unique_blocks(model).items()
    }
    return found | {"outside": _ranks(_outside(model))}


def _ranks(names: dict[nn.Module, str]) -> dict[str, int]:
    found = {path: rank_of(module) for module, path in names.items()}
    return {path: rank for path, rank in found.items() if rank is not None}


def _outside(model: PreTrainedModel) -> dict[nn.Module, str]:
    """The paths of all modules that are in no block, in the base model where they are in it."""
    inside = {module for blocks in unique_blocks(model).values() for block in blocks for module in block.modules()}
    names = {m: path for part in (model, model.base_model) for path, m in part.named_modules()}
    return {module: path for module, path in names.items() if module not in inside}


def rank_components(model: PreTrainedModel) -> list[Units]:
    """The rank-1 components of each layer and embedding in two factors, named as the module is; of tied ones none."""
    users, found = parameter_names(model), []
    for name, module in model.named_modules():
        if (rank := rank_of(module)) is None or len(users[id(raw_parameter(module))]) > 1:
            continue
        own = Slice(module, "weight", in_axis(module), 1)
        if isinstance(module, nn.Embedding):
            slices = (own, Slice(module.output_factor, "weight", 1, 1))
        else:
            slices = (Slice(module.input_factor, "weight", 0, 1), own)
        found.append(Units(name, rank, slices, {}, module))
    return found
