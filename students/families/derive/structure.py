"""Derive the layers of attention and feed-forward of a family, with the keys of their sizes, and prove them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.derive.cutting import cuts_exactly
from students.families.derive.keys import head_size_key, heads_key, joint_widths, neurons_key
from students.families.derive.probe import Pass, text
from students.families.derive.units import Reader, find_readers
from students.families.linear import is_linear
from students.families.parts import AttentionParts, AttentionSite, Family, FeedForwardParts, LayerStack, Projection

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def derive_structure(model: PreTrainedModel, stacks: dict[str, LayerStack]) -> Family | None:
    """Return the facts of a family with the layers of its attention and feed-forward; None if they are not known.

    They are known if linear layers of the first block read units (``units.find_readers``), one for each attention and
    at most one more, the feed-forward's, and if neurons can be cut out of all blocks of a tiny model without another
    change of what it computes. Heads of which that is not true are fixed; where attention has no linear layers (XLNet)
    its heads are not known.

    Args:
        model: a tiny random one, which is changed.
        stacks: those of it, with the modules that compute attention.
    """
    sites = [[*stack.attention.values()] for stack in stacks.values()]
    if not all(sites) or not sites or any(site.layers for stack_sites in sites for site in stack_sites):
        return None
    model.requires_grad_(True)
    known, has_fixed_heads = {}, False
    for name, stack in stacks.items():
        found = _derive_stack(model, name, stack)
        if found is None:
            return None
        known[name], is_fixed = found
        has_fixed_heads |= is_fixed
    facts = Family(known, position_embeddings=None, has_fixed_heads=has_fixed_heads)
    return replace(facts, head_size=_head_size(model, known), joint_widths=_joint_widths(model, known))


def run_text(model: PreTrainedModel) -> Tensor:
    """Return the last hidden states of a text, of both stacks one after the other."""
    output = Pass().run(model, [], text(model))
    states = [getattr(output, key, None) for key in ("last_hidden_state", "encoder_last_hidden_state")]
    return torch.cat([state.detach() for state in states if state is not None], dim=1)


def _derive_stack(model: PreTrainedModel, name: str, stack: LayerStack) -> tuple[LayerStack, bool] | None:
    """Return a stack with its layers, and whether its heads cannot be cut one by one."""
    first = model.get_submodule(stack.blocks)[0]
    readers = find_readers(first, partial(Pass(with_gradients=True).run, model, [], text(model)))
    neurons = [reader for reader in readers if not reader.mixes_tokens]
    heads = [reader for reader in readers if reader.mixes_tokens]
    if len(neurons) > 1 or len(heads) not in (0, len(stack.attention)) or not readers:
        return None
    attention, keys, is_fixed = dict(stack.attention), {}, False
    for (kind, site), reader in zip(stack.attention.items(), heads, strict=bool(heads)):
        found = _attention(model, name, stack, site, reader)
        if found is None:
            return None
        attention[kind], keys["heads"], is_cut = found
        if attention[kind] is None:
            return None
        is_fixed |= not is_cut
    ffn = None
    if neurons:
        (reader,) = neurons
        key = neurons_key(model.config, stack.blocks, reader.path, reader.count)
        if key is None and reader.count != 4 * model.config.hidden_size:
            return None
        if not cuts_exactly(model, run_text, stack.blocks, reader, _without_second(reader.count)):
            return None
        ffn, keys["intermediate"] = FeedForwardParts(reader.same_token, reader.path), key or ""
    return replace(stack, attention=attention, ffn=ffn, **keys), is_fixed


def _attention(
    model: PreTrainedModel, name: str, stack: LayerStack, site: AttentionSite, reader: Reader
) -> tuple[AttentionParts | None, str, bool] | None:
    """Return an attention with its layers, the key of the number of heads, and whether heads can be cut."""
    config, block = model.config, model.get_submodule(stack.blocks)[0]
    owner, width = block.get_submodule(site.module), _input_width(block.get_submodule(reader.path))
    # A norm of all queries together hides their heads.
    is_hidden = reader.count == width
    for count in dict.fromkeys(_head_counts(config, name)):
        keys = getattr(config, "num_key_value_heads", None)
        groups = (keys or count) if is_hidden else reader.count
        if count % groups or keys not in (None, count, groups):
            continue
        if keys == count and groups not in (1, count):  # pairs of heads (DiffLlama): the config has no number of them
            continue
        size = width // count
        head_dim = _attribute(owner, size, "head", "dim", "size")
        key = heads_key(config, name, stack.blocks, reader.path, count, groups)
        if head_dim and key:
            break
    else:
        return None
    if is_hidden:
        return _hidden_heads(owner, site, reader, head_dim, size, (count, groups)), key, False
    parts = AttentionParts(
        site.module,
        tuple(_per_head(block, projection, size, count, reader.count) for projection in reader.same_token),
        tuple(_per_head(block, projection, size, reader.count, reader.count) for projection in reader.all_tokens),
        reader.path,
        head_dim,
        (),
        num_key_value_groups=_attribute(owner, count // reader.count, "groups"),
        is_watched=site.is_watched,
        head_ratio=site.head_ratio,
    )
    if not parts.queries:  # one layer holds queries, keys and values of a head side by side
        parts = replace(parts, queries=parts.keys, keys=())
    counts = [k for k, v in vars(owner).items() if type(v) is int and v == count and "head" in k and k != head_dim]
    inner = [k for k, v in vars(owner).items() if type(v) is int and v == width and k not in counts]
    keep = _without_second(reader.count)
    for num_heads, inner_dim in (([], []), (counts, []), (counts, inner)):
        per_unit = count // reader.count
        attributes = dict.fromkeys(num_heads, per_unit) | dict.fromkeys(inner_dim, per_unit * size)
        if reader.count > 1 and cuts_exactly(model, run_text, stack.blocks, reader, keep, site.module, attributes):
            none = cuts_exactly(model, run_text, stack.blocks, reader, torch.zeros_like(keep), site.module, attributes)
            optional = {"num_heads": tuple(num_heads), "inner_dim": tuple(inner_dim), "needs_a_head": not none}
            return replace(parts, **optional), key, True
    return parts, key, False


def _hidden_heads(
    owner: nn.Module, site: AttentionSite, reader: Reader, head_dim: str, size: int, counts: tuple[int, int]
) -> AttentionParts | None:
    """Return the parts of an attention whose layers are those of its module, by the number of their outputs."""
    prefix = f"{site.module}."
    layers = {f"{prefix}{path}": module for path, module in owner.named_modules() if is_linear(module)}
    widths = {path: _output_width(layer) for path, layer in layers.items() if path != reader.path}
    groups = [tuple(Projection(path) for path, width in widths.items() if width == n * size) for n in counts]
    queries, keys = groups if counts[0] != counts[1] else (groups[0], ())
    if len(queries + keys) != len(widths) or len(widths) != 3 or reader.path not in layers:
        return None
    watched = {"is_watched": site.is_watched, "head_ratio": site.head_ratio}
    return AttentionParts(site.module, queries, keys, reader.path, head_dim, (), **watched)


def _head_counts(config: object, stack: str) -> list[int]:
    """Return the numbers of query heads that a config may tell of a stack."""
    names = (f"{stack}_attention_heads", "num_attention_heads", f"num_{stack}_attention_heads")
    values = [getattr(config, key, None) for key in names]
    return [value for value in values if type(value) is int and value > 0]


def _per_head(block: nn.Module, projection: Projection, size: int, heads: int, units: int) -> Projection:
    """Return a projection with the number of its outputs for each head."""
    layer = block.get_submodule(projection.path)
    return replace(projection, per_unit=max(1, _output_width(layer) // projection.parts // (heads * size)))


def _output_width(layer: nn.Module) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.nf


def _attribute(owner: nn.Module, value: int, *words: str) -> str:
    """Return the attribute of a module that holds a number, preferring those with the first of some words."""
    names = [key for key, number in vars(owner).items() if type(number) is int and number == value]
    names = [key for key in names if any(word in key for word in words)]
    return min(names, key=lambda key: [word not in key for word in words], default="")


def _input_width(layer: nn.Module) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.nx


def _without_second(count: int) -> Tensor:
    return torch.arange(count) != 1


def _head_size(model: PreTrainedModel, stacks: dict[str, LayerStack]) -> str:
    stack = next(iter(stacks.values()))
    parts = stack.attention["self"]
    if not isinstance(parts, AttentionParts):
        return ""
    size = getattr(model.get_submodule(stack.blocks)[0].get_submodule(parts.module), parts.head_dim)
    return head_size_key(model.config, stack.blocks, parts.output, size)


def _joint_widths(model: PreTrainedModel, stacks: dict[str, LayerStack]) -> tuple[str, ...]:
    known = {key for stack in stacks.values() for key in (stack.depth, stack.heads, stack.intermediate)}
    return joint_widths(model.config, known)
