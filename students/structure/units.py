"""The units a block is made of, neurons, heads and whole branches: where each has its numbers, how it is cut out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.families import blocks, family
from students.families.parts import Projection
from students.weights import (
    Where,
    ffn_layers,
    get_weight_transforms,
    in_axis,
    input_layer,
    out_axis,
    raw_parameter,
    set_parameter,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Slice:
    """Along ``axis`` of one tensor, from ``start`` on, each unit has ``size`` consecutive entries."""

    module: nn.Module
    name: str
    axis: int
    size: int
    start: int = 0

    def rows(self, tensor: Tensor, count: int) -> Tensor:
        """What belongs to each of the ``count`` units, in a tensor like the parameter: [count, numbers]."""
        entries = tensor.movedim(self.axis, 0)[self.start : self.start + count * self.size]
        return entries.reshape(count, entries.numel() // max(count, 1))


@dataclass(frozen=True)
class Units:
    """The ``count`` neurons of a feed-forward, or heads of an attention, and all slices that belong to them.

    Those are its rows and biases in the layers that make it and, last, its columns in the layer that reads it.
    Where query heads share a key and value head, the group of them is one unit; where all share one, each query head.
    """

    name: str
    count: int
    slices: tuple[Slice, ...]
    attributes: dict[str, int | tuple[int, ...]]
    """Attributes of ``owner`` that follow the count, with what they hold per unit: a number, or several."""
    owner: nn.Module
    num_output_slices: int = 1
    """How many of the slices, the last ones, send on what a unit makes."""
    duplicates: tuple[Units, ...] = ()
    """The same units as further blocks have them, which run the same layers."""
    shared_slices: tuple[Slice, ...] = ()
    """What belongs to all of them together, as the one key and value of query heads; it goes with the last."""
    zero_bias: tuple[str, int] | None = None
    """As in ``AttentionParts``: of a module that has lost heads it is its own."""

    @property
    def output_slices(self) -> tuple[Slice, ...]:
        """The slices without which nothing of a unit reaches what comes after it."""
        return self.slices[-self.num_output_slices :]

    def kept_entries(self, keep: Tensor) -> dict[tuple[nn.Module, str], tuple[int, Tensor]]:
        """Which entries stay if the units in ``keep`` (bool [count]) do.

        By module and parameter name: the axis of the tensor, and a bool for each entry along it.
        """
        found: dict[tuple[nn.Module, str], tuple[int, Tensor]] = {}
        for part in self.slices:
            length = raw_parameter(part.module, part.name).shape[part.axis]
            # On the CPU by name: a model under construction on the meta device has no values.
            everything = torch.ones(length, dtype=torch.bool, device="cpu")
            _, stay = found.setdefault((part.module, part.name), (part.axis, everything))
            stay[part.start : part.start + self.count * part.size] = keep.cpu().repeat_interleave(part.size)
        for part in self.shared_slices:
            length = raw_parameter(part.module, part.name).shape[part.axis]
            found[part.module, part.name] = (part.axis, keep.any().cpu().expand(length).clone())
        return found


def unique_blocks(model: PreTrainedModel) -> dict[str, list[nn.Module]]:
    """The blocks of each stack, each block once however often it runs (ALBERT has one)."""
    return {name: list(dict.fromkeys(blocks(model, name))) for name in family(model.config).stacks}


def neurons(model: PreTrainedModel) -> list[Units]:
    """The feed-forward units of every block, named as in ``encoder.0.ffn``."""
    found = []
    for name, stack in family(model.config).stacks.items():
        for i, block in enumerate(unique_blocks(model)[name] if stack.ffn else []):
            inner, outer = ffn_layers(stack, block)
            slices = [Slice(layer, "weight", out_axis(layer), 1) for layer in inner]
            slices += [Slice(layer, "bias", 0, 1) for layer in inner if raw_parameter(layer, "bias") is not None]
            outer = input_layer(outer)
            slices.append(Slice(outer, "weight", in_axis(outer), 1))
            count = raw_parameter(inner[0]).shape[out_axis(inner[0])]
            found.append(Units(f"{name}.{i}.ffn", count, tuple(slices), {}, inner[0]))
    return _once(found)


def heads(model: PreTrainedModel, has_one_key: bool | None = None) -> list[Units]:
    """The heads of every attention, named as in ``encoder.0.self``; ``has_one_key`` is whether all query heads share
    a key, as the config says if it is not given.
    """
    found = []
    if has_one_key is None:
        has_one_key = getattr(model.config, "num_key_value_heads", None) == 1
    for name, stack in family(model.config).stacks.items():
        for i, block in enumerate(unique_blocks(model)[name]):
            for kind, parts in stack.attention.items():
                owner, output = block.get_submodule(parts.module), input_layer(block.get_submodule(parts.output))
                size = getattr(owner, parts.head_dim)
                count = _width(block, parts.value) // size
                queries, shared_slices, projections = _width(block, parts.query) // size, [], (parts.query,)
                if has_one_key and parts.num_key_value_groups and count:  # one group of all: its queries go one by one
                    count = queries
                    shared_slices = [part for other in (parts.key, parts.value) for part in _projected(block, other, 1)]
                else:
                    projections += (parts.key, parts.value)
                slices = [part for projection in projections for part in _projected(block, projection, count)]
                axis = in_axis(output)
                slices.append(Slice(output, "weight", axis, raw_parameter(output).shape[axis] // max(count, 1)))
                attributes = {key: 1 for key in parts.num_heads} | {key: size for key in parts.inner_dim}
                if parts.split_size:
                    attributes[parts.split_size] = (size,) * parts.query.parts
                if shared_slices:
                    attributes[parts.num_key_value_groups] = 1
                more = {"shared_slices": tuple(shared_slices), "zero_bias": parts.zero_bias}
                found.append(Units(f"{name}.{i}.{kind}", count, tuple(slices), attributes, owner, **more))
    return _once(found)


def _once(found: list[Units]) -> list[Units]:
    """Units of layers that several blocks run are there once, named after the first block."""
    same: dict[tuple[Slice, ...], list[Units]] = {}
    for units in found:
        same.setdefault(units.slices, []).append(units)
    return [replace(first, duplicates=tuple(duplicates)) for first, *duplicates in same.values()]


def branch_type(units: Units) -> Where:
    """Whether units are of an attention or of a feed-forward."""
    return "ffn" if units.name.endswith(".ffn") else "attention"


def branches(model: PreTrainedModel) -> list[Units]:
    """Every attention and every feed-forward as a whole, one unit each, named as its heads or neurons are.

    The bias of the layer that reads them belongs to it, too: without it nothing is added to the residual stream.
    Norms stay, and so do branches of which nothing is left. Not for ``shrink``: a branch leaves the tensors with
    the last of its neurons or heads.
    """
    # Turned around: a first factor comes after the layer whose it is, which then has the word.
    found, wholes = [], {input_layer(module): module for module in reversed([*model.modules()])}
    for units in neurons(model) + heads(model):
        last = wholes[units.slices[-1].module]
        slices = [replace(part, size=part.size * units.count) for part in units.slices]
        slices[:0] = units.shared_slices
        if raw_parameter(last, "bias") is not None:
            slices.insert(-1, Slice(last, "bias", 0, len(raw_parameter(last, "bias"))))
        if units.count:
            num_output_slices = len(slices) - len(units.slices) - len(units.shared_slices) + 1
            found.append(Units(units.name, 1, tuple(slices), {}, units.owner, num_output_slices))
    return found


def _width(block: nn.Module, projection: Projection) -> int:
    layer = block.get_submodule(projection.path)
    return raw_parameter(layer).shape[out_axis(layer)] // projection.parts


def _projected(block: nn.Module, projection: Projection, count: int) -> list[Slice]:
    layer, width = block.get_submodule(projection.path), _width(block, projection)
    size, start = width // max(count, 1), projection.part * width
    found = [Slice(layer, "weight", out_axis(layer), size, start)]
    return found + ([Slice(layer, "bias", 0, size, start)] if raw_parameter(layer, "bias") is not None else [])


@dataclass(frozen=True)
class ShrunkParameter:
    """A parameter that has taken the place of another: of ``old``, the entries ``index`` along ``axis``."""

    old: nn.Parameter
    new: nn.Parameter
    axis: int
    index: Tensor


def shrink(units: Units, keep: Tensor) -> list[ShrunkParameter]:
    """Cut out, in place, the units that ``keep`` (bool [count]) leaves out, of the parameters and of the steps on
    them; an optimizer has to be made afterwards, or told of the new parameters.
    """
    changed = []
    for (module, name), (axis, stay) in units.kept_entries(keep).items():
        old = raw_parameter(module, name)
        index = stay.nonzero().flatten().to(old.device)
        set_parameter(module, name, old.detach().index_select(axis, index))
        for step in get_weight_transforms(module, name):
            for key, buffer in step.named_buffers():
                if buffer.ndim == old.ndim and buffer.shape[axis] == old.shape[axis]:
                    setattr(step, key, buffer.index_select(axis, index))
        changed.append(ShrunkParameter(old, raw_parameter(module, name), axis, index))
    count = int(keep.sum())
    for owner in (units.owner, *(other.owner for other in units.duplicates)):
        if hasattr(replaced := getattr(owner, "core_attention", None), "keep_heads"):
            replaced.keep_heads(keep)
        for key, each in units.attributes.items():
            setattr(owner, key, tuple(count * size for size in each) if isinstance(each, tuple) else count * each)
        if units.zero_bias and count < units.count:
            use_zero_bias(owner, *units.zero_bias)
    return changed


def use_zero_bias(owner: nn.Module, argument: str, place: int) -> None:
    """Let an attention with fewer heads than others take no bias of theirs, nor hand its own on: each makes zeros."""
    if not getattr(owner, "has_zero_bias", False):
        owner.has_zero_bias = True
        owner.register_forward_pre_hook(partial(_take_none, argument), with_kwargs=True)
        owner.register_forward_hook(partial(_give_none, place))


def _take_none(argument: str, owner: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    return args, kwargs | {argument: None}


def _give_none(place: int, owner: nn.Module, args: tuple, output: tuple) -> tuple:
    return (*output[:place], None, *output[place + 1 :])
