"""Find the attention of blocks that do not go through transformers' attention function: watch it in a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from students.attention.recorded import attention_weights, by_head, join_values, record_watched
from students.attention.watch import AttentionWatch, WatchedAttention
from students.families.derive.probe import Pass, Probed, probe, text
from students.families.derive.stacks import FEW, build_base
from students.families.parts import AttentionSite, LayerStack

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

MOST = 16
"""The largest number of blocks of a tiny model."""
_PADDED = 2
"""The number of tokens at the end of the second text that are padding."""


def find_attention(config: PretrainedConfig, probed: Probed) -> dict[str, LayerStack]:
    """Return the stacks with their attention; those of a model whose attention is watched have it only if it is exact.

    The weights have to be those that the model returns itself. If it returns none, those of a text may not depend on
    the other text of the batch. Their product with the value has to be what the model computes. If only some blocks
    have attention, a tiny model of as many blocks is tried that each kind of them is there.

    Args:
        config: of the model itself.
        probed: of a tiny model, which attends eagerly afterwards if its attention has to be watched.
    """
    if not probed.stacks:
        return {}
    whole, found = build_base(config, "meta"), None
    if all(stack.attention for stack in probed.stacks.values()):
        found = _with_layers(whole, probed.model, probed.stacks)
    found = found or _watch_stacks(whole, probed.model, probed.stacks)
    if found is None and len(probed.stacks) == 1:
        (stack,) = probed.stacks.values()
        depth = depth_of_all_kinds([*whole.get_submodule(stack.blocks)])
        if depth <= MOST:
            deeper = probe(config, {stack.blocks: stack.depth}, max(depth, FEW))
            found = _watch_stacks(whole, deeper.model, deeper.stacks)
    return found or {name: replace(stack, attention={}) for name, stack in probed.stacks.items()}


def _with_layers(
    whole: PreTrainedModel, model: PreTrainedModel, stacks: dict[str, LayerStack]
) -> dict[str, LayerStack] | None:
    """Return stacks whose blocks all have attention in a tiny model, with the layers that have it in the whole one."""
    found = {}
    for name, stack in stacks.items():
        every, attention = range(len(model.get_submodule(stack.blocks))), {}
        for kind, site in stack.attention.items():
            layers = _layers(whole, model, stack.blocks, site.module, list(every))
            if layers is None:
                return None
            attention[kind] = replace(site, layers=layers)
        found[name] = replace(stack, attention=attention)
    return found


def _watch_stacks(
    whole: PreTrainedModel, model: PreTrainedModel, stacks: dict[str, LayerStack]
) -> dict[str, LayerStack] | None:
    """Return the stacks of a tiny model with the attentions that are watched; None if one has none, or is not exact."""
    model.set_attn_implementation("eager")
    found = {}
    for name, stack in stacks.items():
        kinds = ("self", "cross") if name == "decoder" and len(stacks) == 2 else ("self",)
        attention = _watched_sites(whole, model, name, stack, kinds)
        if attention is None:
            return None
        found[name] = replace(stack, attention=attention)
    return found


def _watched_sites(
    whole: PreTrainedModel, model: PreTrainedModel, name: str, stack: LayerStack, kinds: tuple[str, ...]
) -> dict[str, AttentionSite] | None:
    """Return by kind the attentions of the blocks that have them; None if these differ, or one is not exact."""
    blocks, ids = [*model.get_submodule(stack.blocks)], text(model)
    ids = torch.cat([ids, ids.flip(-1)])
    calls, output = _watch(model, blocks, ids)
    others, _ = _watch(model, blocks, torch.stack([ids[0], ids[1].roll(1)]))
    called = [n for n, found in enumerate(calls) if found]
    paths = [[call.path for call in calls[n]] for n in called]
    if not called or any(block != paths[0] for block in paths) or len(paths[0]) != len(kinds):
        return None
    sites = {}
    for i, (kind, path) in enumerate(zip(kinds, paths[0], strict=True)):
        own = _own_weights(output, name if kind == "self" else kind, len(called))
        if not all(_is_exact(calls[n][i], others[n][i], own[place]) for place, n in enumerate(called)):
            return None
        while isinstance(blocks[called[0]].get_submodule(".".join(path)), nn.ModuleList):
            path = path[:-1]
        num_heads = model.config.num_attention_heads
        heads = record_watched(calls[called[0]][i], 2).query.shape[1]
        layers = _layers(whole, model, stack.blocks, ".".join(path), called)
        if num_heads % heads or layers is None:
            return None
        site = AttentionSite(".".join(path), is_watched=True, head_ratio=num_heads // heads, layers=layers)
        sites[kind] = site
    return sites


def _layers(
    whole: PreTrainedModel, tiny: PreTrainedModel, blocks: str, path: str, called: list[int]
) -> tuple[int, ...] | None:
    """Return the layers of a model that have an attention, of which a tiny one has shown where; empty if all have it.

    Args:
        whole: the model, without weights.
        tiny: the tiny one.
        blocks: path of the stack.
        path: of the attention in a block.
        called: the places of the blocks of the tiny model that have it.

    Returns:
        None if no block has it, as in a model that replaces modules when it runs (BigBird), or it is not told by the
        class of the module.
    """
    classes = [type(dict(block.named_modules()).get(path)) for block in tiny.get_submodule(blocks)]
    having = {classes[n] for n in called}
    if any(other in having for n, other in enumerate(classes) if n not in called):
        return None
    modules = [dict(block.named_modules()).get(path) for block in whole.get_submodule(blocks)]
    layers = tuple(layer for layer, module in enumerate(modules, start=1) if type(module) in having)
    return (() if len(layers) == len(modules) else layers) if layers else None


def depth_of_all_kinds(blocks: list[nn.Module]) -> int:
    """Return the number of first blocks among which there is each kind, by the classes of its modules."""
    kinds = [tuple(type(module) for module in block.modules()) for block in blocks]
    return max(kinds.index(kind) for kind in set(kinds)) + 1


def _is_exact(call: WatchedAttention, other: WatchedAttention, own: Tensor | None) -> bool:
    """Return whether the weights and the value that would be recorded are those with which the model computes.

    Args:
        call: the attention of two texts.
        other: that of the first one and another second one.
        own: the weights that the model returns for the first two, if it does.
    """
    attention, again = record_watched(call, 2), record_watched(other, 2)
    weights, value = attention_weights(attention), attention.value
    product = weights @ value.repeat_interleave(weights.shape[1] // value.shape[1], 1)
    rows = attention.mask.any(-1).expand(weights.shape[:3])
    if not torch.allclose(product[rows], by_head(call.context, 2)[rows], atol=1e-5):
        return False
    expected = attention_weights(again)[0] if own is None else own
    actual = weights[0] if own is None else weights
    rows = rows[: len(expected)] if own is not None else rows[0]
    return actual.shape == expected.shape and torch.allclose(actual[rows], expected[rows], atol=1e-5)


def _own_weights(output: Any, kind: str, layers: int) -> list[Tensor] | list[None]:
    """Return the weights of each layer that the model returns; None for each if it does not."""
    for key in (f"{kind}_attentions", "attentions"):
        weights = [layer for layer in getattr(output, key, None) or () if isinstance(layer, Tensor)]
        if len(weights) == layers:
            return weights
    return [None] * layers


def _watch(model: PreTrainedModel, blocks: list[nn.Module], ids: Tensor) -> tuple[list[list[WatchedAttention]], Any]:
    """Run two texts, the second padded; return for each block its attentions, and the output of the model."""
    mask = torch.ones_like(ids)
    mask[1, -_PADDED:] = 0
    try:
        with _watching(blocks) as calls:
            output = Pass().run(model, [], ids, attention_mask=mask, output_attentions=True)
    except (TypeError, ValueError):  # it does not return its weights
        with _watching(blocks) as calls:
            output = Pass().run(model, [], ids, attention_mask=mask)
    return [join_values(found) for found in calls], output


@contextmanager
def _watching(blocks: list[nn.Module]) -> Iterator[list[list[WatchedAttention]]]:
    """Watch each block while it runs, with the paths of the modules in it."""
    running: list[str] = []
    watches = [AttentionWatch(lambda: tuple(running[-1].split(".")) if running else ()) for _ in blocks]
    hooks = []

    def enter(path: str, *_: object) -> None:
        running.append(path)

    def leave(*_: object) -> None:
        running.pop()

    for block, watch in zip(blocks, watches, strict=True):
        hooks.append(block.register_forward_pre_hook(lambda *_, watch=watch: watch.start()))
        hooks.append(block.register_forward_hook(lambda *_, watch=watch: watch.stop(), always_call=True))
        for path, module in block.named_modules():
            if path:
                hooks.append(module.register_forward_pre_hook(partial(enter, path)))
                hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield [watch.found for watch in watches]
    finally:
        for hook in hooks:
            hook.remove()
