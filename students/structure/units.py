"""The units of a block (neurons, heads, whole branches): find the slices of weights of each, and cut units out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.attention.zero_bias import use_zero_bias
from students.families.families import attention_parts, family, unique_blocks
from students.families.parts import Projection
from students.structure.places import Where
from students.weights import get_weight_transforms, in_axis, input_layer, out_axis, raw_parameter, set_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Slice:
    """The part of one tensor that belongs to units: from ``start`` on, ``size`` entries along ``axis`` a unit."""

    module: nn.Module
    name: str
    axis: int
    size: int
    start: int = 0

    def rows(self, tensor: Tensor, count: int) -> Tensor:
        """Return the entries of each of ``count`` units in a tensor of the parameter's shape: [count, entries]."""
        entries = tensor.movedim(self.axis, 0)[self.start : self.start + count * self.size]
        return entries.reshape(count, entries.numel() // max(count, 1))


@dataclass(frozen=True)
class Units:
    """The ``count`` neurons of a feed-forward, or heads of an attention, with all slices that belong to them.

    The slices of a unit are its rows and biases in the layers that compute it and, last, its columns in the layer that
    takes it as input. With grouped-query attention a group of query heads is one unit; with multi-query attention each
    query head is one.
    """

    name: str
    count: int
    slices: tuple[Slice, ...]
    attributes: dict[str, int | tuple[int, ...]]
    """Attributes of ``owner`` that are proportional to the count, with their value per unit: one number, or several."""
    owner: nn.Module
    num_output_slices: int = 1
    """The number of ``output_slices``, which are the last ones."""
    duplicates: tuple[Units, ...] = ()
    """The same units in further blocks, which run the same layers."""
    shared_slices: tuple[Slice, ...] = ()
    """Slices that belong to all units together, as the one key and value of all query heads; cut with the last unit."""
    zero_bias: tuple[str, int] | None = None
    """As in ``AttentionParts``; a module that has lost heads makes its own."""
    is_fixed: bool = False
    """Whether they cannot be cut out one by one."""
    needs_one: bool = False
    """Whether at least one must stay."""
    counters: tuple[tuple[nn.Module, str, bool], ...] = ()
    """Attributes of further modules that hold the count or, if true, a number of at most the count."""
    buffers: tuple[tuple[nn.Module, str, int], ...] = ()
    """Buffers with an entry for each unit along an axis, which are cut with them."""
    fewest: int = 0
    """How many stay if any does."""

    @property
    def output_slices(self) -> tuple[Slice, ...]:
        """The slices that pass a unit's output on: without them a unit has no effect."""
        return self.slices[-self.num_output_slices :]

    def kept_entries(self, keep: Tensor) -> dict[tuple[nn.Module, str], tuple[int, Tensor]]:
        """Return the entries of the parameters that stay with the units in ``keep``.

        Args:
            keep: bool [count].

        Returns:
            {(module, parameter name): (axis, bool for each entry along it)}.
        """
        entries: dict[tuple[nn.Module, str], tuple[int, Tensor]] = {}
        for part in self.slices:
            length = raw_parameter(part.module, part.name).shape[part.axis]
            # On the CPU by name: a model under construction on the meta device has no values.
            all_entries = torch.ones(length, dtype=torch.bool, device="cpu")
            _, is_kept = entries.setdefault((part.module, part.name), (part.axis, all_entries))
            is_kept[part.start : part.start + self.count * part.size] = keep.cpu().repeat_interleave(part.size)
        for part in self.shared_slices:
            length = raw_parameter(part.module, part.name).shape[part.axis]
            entries[part.module, part.name] = (part.axis, keep.any().cpu().expand(length).clone())
        return entries


def neurons(model: PreTrainedModel) -> list[Units]:
    """Return the neurons of every feed-forward, named as in ``encoder.0.ffn``; none below the level ``structure``."""
    all_units = []
    for name, stack in family(model.config).stacks.items():
        for i, block in enumerate(unique_blocks(model)[name] if stack.ffn else []):
            paths, outer = dict(block.named_modules()), input_layer(block.get_submodule(stack.ffn.outer))
            inner = [projection for projection in stack.ffn.inner if projection.path in paths]
            count = raw_parameter(outer).shape[in_axis(outer)]
            slices = [part for projection in inner for part in _projection_slices(block, projection, count)]
            slices.append(Slice(outer, "weight", in_axis(outer), 1))
            all_units.append(Units(f"{name}.{i}.ffn", count, tuple(slices), {}, paths[inner[0].path]))
    return _merge_duplicates(all_units)


def heads(model: PreTrainedModel, has_one_key: bool | None = None) -> list[Units]:
    """Return the heads of every attention, named as in ``encoder.0.self``; none below the level ``structure``.

    Args:
        model: of any family.
        has_one_key: whether all query heads share a key (multi-query attention); by default as in the config.
    """
    all_units, facts = [], family(model.config)
    if has_one_key is None:
        has_one_key = getattr(model.config, "num_key_value_heads", None) == 1
    for name, stack in facts.stacks.items():
        for i, block in enumerate(unique_blocks(model)[name]):
            for kind, parts in attention_parts(stack).items():
                owner, output = block.get_submodule(parts.module), input_layer(block.get_submodule(parts.output))
                size = getattr(owner, parts.head_dim)
                queries, keys = (
                    _output_width(block, group[0]) // (group[0].per_unit * size)
                    for group in (parts.queries, parts.keys or parts.queries)
                )
                count, projections, shared_slices = keys, parts.queries + parts.keys, []
                if has_one_key and parts.num_key_value_groups and count:  # multi-query: each query head is a unit
                    count, projections = queries, parts.queries
                    shared_slices = [part for other in parts.keys for part in _projection_slices(block, other, 1)]
                slices = [part for projection in projections for part in _projection_slices(block, projection, count)]
                axis = in_axis(output)
                slices.append(Slice(output, "weight", axis, raw_parameter(output).shape[axis] // max(count, 1)))
                shared = queries // max(count, 1)
                attributes = dict.fromkeys(parts.num_heads, shared) | dict.fromkeys(parts.inner_dim, shared * size)
                if parts.split_size:
                    attributes[parts.split_size] = (size,) * parts.queries[0].parts
                if shared_slices:
                    attributes[parts.num_key_value_groups] = 1
                optional = {
                    "shared_slices": tuple(shared_slices),
                    "zero_bias": parts.zero_bias,
                    "is_fixed": facts.has_fixed_heads and not parts.zero_bias,
                    "needs_one": parts.needs_a_head,
                }
                all_units.append(Units(f"{name}.{i}.{kind}", count, tuple(slices), attributes, owner, **optional))
    return _merge_duplicates(all_units)


def _merge_duplicates(all_units: list[Units]) -> list[Units]:
    """Return the units of layers that several blocks run once, named after the first block."""
    groups: dict[tuple[Slice, ...], list[Units]] = {}
    for units in all_units:
        groups.setdefault(units.slices, []).append(units)
    return [replace(first, duplicates=tuple(duplicates)) for first, *duplicates in groups.values()]


def branch_type(units: Units) -> Where:
    """Return whether units belong to an attention or a feed-forward."""
    return "ffn" if units.name.endswith((".ffn", ".experts")) else "attention"


def branches(model: PreTrainedModel) -> list[Units]:
    """Return every attention and every feed-forward as one unit each, named as its heads or neurons are.

    The bias of the output layer belongs to it, so that a pruned branch adds nothing to the residual stream. Norms do
    not belong to it. Branches without units left are omitted. Not for ``shrink``: a branch is removed from the tensors
    by cutting all its neurons or heads.
    """
    # In reverse order, so that a low-rank layer, which precedes its input factor, wins over that.
    all_units, layer_by_input = [], {input_layer(module): module for module in reversed([*model.modules()])}
    for units in neurons(model) + heads(model):
        last = layer_by_input[units.slices[-1].module]
        slices = [replace(part, size=part.size * units.count) for part in units.slices]
        slices[:0] = units.shared_slices
        if raw_parameter(last, "bias") is not None:
            slices.insert(-1, Slice(last, "bias", 0, len(raw_parameter(last, "bias"))))
        if units.count:
            num_output_slices = len(slices) - len(units.slices) - len(units.shared_slices) + 1
            all_units.append(Units(units.name, 1, tuple(slices), {}, units.owner, num_output_slices))
    return all_units


def _output_width(block: nn.Module, projection: Projection) -> int:
    layer = block.get_submodule(projection.path)
    return raw_parameter(layer).shape[out_axis(layer)] // projection.parts


def _projection_slices(block: nn.Module, projection: Projection, count: int) -> list[Slice]:
    layer, width = block.get_submodule(projection.path), _output_width(block, projection)
    size, start = width // max(count, 1), projection.part * width
    slices = [Slice(layer, "weight", out_axis(layer), size, start)]
    return slices + ([Slice(layer, "bias", 0, size, start)] if raw_parameter(layer, "bias") is not None else [])


@dataclass(frozen=True)
class ShrunkParameter:
    """A parameter ``new`` that replaces ``old`` with its entries ``index`` along ``axis``."""

    old: nn.Parameter
    new: nn.Parameter
    axis: int
    index: Tensor


def shrink(units: Units, keep: Tensor) -> list[ShrunkParameter]:
    """Cut out, in place, the units that are not in ``keep`` (bool [count]), also of the weight transforms.

    Returns:
        The replaced parameters; an optimizer made before must be given the new ones.
    """
    changed = []
    for (module, name), (axis, is_kept) in units.kept_entries(keep).items():
        old = raw_parameter(module, name)
        index = is_kept.nonzero().flatten().to(old.device)
        set_parameter(module, name, old.detach().index_select(axis, index))
        for transform in get_weight_transforms(module, name):
            for key, buffer in transform.named_buffers():
                if buffer.ndim == old.ndim and buffer.shape[axis] == old.shape[axis]:
                    setattr(transform, key, buffer.index_select(axis, index))
        changed.append(ShrunkParameter(old, raw_parameter(module, name), axis, index))
    count = int(keep.sum())
    for module, name, axis in units.buffers:
        buffer = getattr(module, name)
        setattr(module, name, buffer.index_select(axis, keep.nonzero().flatten().to(buffer.device)))
    for module, name, is_limit in units.counters:
        setattr(module, name, min(count, getattr(module, name)) if is_limit else count)
    for owner in (units.owner, *(other.owner for other in units.duplicates)):
        if hasattr(core_attention := getattr(owner, "core_attention", None), "keep_heads"):
            core_attention.keep_heads(keep)
        for key, per_unit in units.attributes.items():
            is_tuple = isinstance(per_unit, tuple)
            setattr(owner, key, tuple(count * size for size in per_unit) if is_tuple else count * per_unit)
        if units.zero_bias and count < units.count:
            use_zero_bias(owner, *units.zero_bias)
    return changed
