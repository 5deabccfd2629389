"""Reduce the experts of a model to fewer: the most used ones, or means of several."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.families import find_stack
from students.recording.input_grams import stack_by_module
from students.recording.model_io import model_inputs, valid_positions
from students.structure.experts import experts, has_experts, routed_weights
from students.structure.inherit import largest_units
from students.structure.units import Units, shrink
from students.weights import raw_parameter

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

BATCHES = 16
"""The batches of which tokens are counted."""


def check_experts(
    teacher: PretrainedConfig, count: int | None, merges: bool, intermediate: int | None, weights: str
) -> None:
    """Check what a student of a teacher may say of its experts.

    Raises:
        ValueError: if the teacher has none, or fewer, or their neurons were to be fewer.
    """
    if merges and (count is None or weights == "random"):
        raise ValueError("merge_experts: experts are merged into the number of experts, which start as the teacher's")
    if not has_experts(teacher):
        if count is not None:
            raise ValueError(f"experts: a {teacher.model_type} has none, or its experts are not known")
        return
    stack = find_stack(teacher)[1]
    if intermediate is not None and stack.ffn is None and weights == "teacher":
        raise ValueError(f"intermediate: neurons of the experts of a {teacher.model_type} are not known; set experts")
    available = getattr(teacher, stack.experts.num_experts)
    if count is not None and count > available:
        raise ValueError(f"experts: the teacher has {available} in a block, not {count}")
    if count is not None and count < stack.experts.fewest:
        raise ValueError(f"experts: a router of a {teacher.model_type} needs {stack.experts.fewest}, not {count}")


def reduce_experts(model: PreTrainedModel, count: int, merges: bool, batches: Iterable[dict[str, Tensor]] = ()) -> None:
    """Reduce, in place, the experts of each block to ``count``; the config stays as it is.

    Args:
        model: with experts.
        count: the number that stays in each block.
        merges: whether the others become part of those that stay, and are not left out.
        batches: of training, whose tokens are counted; without them the experts of the largest norm stay, and all have
            the same weight.
    """
    usage = count_tokens(model, islice(batches, BATCHES))
    for units in experts(model):
        tokens = usage.get(units.name)
        rows = [part.rows(raw_parameter(part.module, part.name), units.count) for part in units.slices]
        chosen = largest_units(rows if tokens is None else [tokens.sqrt()[:, None]], count)
        if merges:
            merge_into(units, chosen, torch.ones(units.count) if tokens is None else tokens)
        keep = torch.zeros(units.count, dtype=torch.bool)
        keep[chosen] = True
        shrink(units, keep)


@torch.no_grad()
def count_tokens(model: PreTrainedModel, batches: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return for each block with experts the tokens that each gets, by the weight that the router gives them.

    Padding does not count. Without batches the result is empty.

    Returns:
        {name of the units: float32 [experts]}, on the CPU.
    """
    usage: dict[str, Tensor] = {}
    stacks, mode, valid, hooks = stack_by_module(model), model.training, {}, []

    def counter(units: Units):
        def count(module: nn.Module, args: tuple, kwargs: dict) -> None:
            weights = routed_weights(args, kwargs, valid[stacks[module]], units.count).cpu()
            usage[units.name] = usage.get(units.name, 0.0) + weights

        return count

    for units in experts(model):
        hooks.append(units.owner.register_forward_pre_hook(counter(units), with_kwargs=True))
    model.eval()
    for batch in batches:
        batch = {name: value.to(model.device) for name, value in batch.items()}
        valid |= valid_positions(model.config, batch)
        model(**model_inputs(model, batch))
    model.train(mode)
    for hook in hooks:
        hook.remove()
    return usage


@torch.no_grad()
def merge_into(units: Units, chosen: Tensor, tokens: Tensor) -> None:
    """Set each chosen expert, in place, to the mean of itself and of those of the others that are nearest to it.

    An expert is nearest to the one whose row in the router has the largest cosine with its own. The mean is over all
    parameters, rows of the router too, weighted by tokens; where none of a group has any, all count the same.

    Args:
        units: the experts of a block.
        chosen: indices of those that stay, [kept].
        tokens: of each expert, at least 0, [experts].
    """
    router = units.slices[0]
    rows = nn.functional.normalize(router.rows(raw_parameter(router.module, router.name), units.count).float(), dim=1)
    nearest = (rows @ rows[chosen.to(rows.device)].T).argmax(dim=1).cpu()
    nearest[chosen] = torch.arange(len(chosen))
    group = nn.functional.one_hot(nearest, len(chosen)).T.float()  # [kept, experts]
    shares = group * tokens.float()
    shares = torch.where(shares.sum(1, keepdim=True) > 0, shares, group)
    shares = shares / shares.sum(1, keepdim=True)
    for part in units.slices:
        parameter = raw_parameter(part.module, part.name)
        experts_first = parameter.movedim(part.axis, 0)
        means = torch.tensordot(shares.to(parameter.device), experts_first.float(), dims=1)
        experts_first[chosen.to(parameter.device)] = means.to(parameter.dtype)
