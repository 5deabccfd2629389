"""Find the attention of blocks that do not go through transformers' attention function: watch it in a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from students.attention.recorded import RecordedAttention, by_head, record_watched
from students.attention.watch import AttentionWatch, WatchedAttention
from students.families.derive.probe import Pass, Probed, text
from students.families.derive.stacks import build_base
from students.families.parts import AttentionSite, LayerStack

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_PADDED = 2
"""The number of tokens at the end of the second text that are padding."""


def find_attention(config: PretrainedConfig, probed: Probed) -> dict[str, LayerStack]:
    """Return the stacks with their attention; those of a model whose attention is watched have it only if it is exact.

    The weights have to be those that the model returns itself. If it returns none, those of a text may not depend on
    the other text of the batch. Their product with the value has to be what the model computes.

    Args:
        config: of the model itself.
        probed: of a tiny model, which attends eagerly afterwards if its attention has to be watched.
    """
    if not probed.stacks or all(stack.attention for stack in probed.stacks.values()):
        return probed.stacks
    model = probed.model
    model.set_attn_implementation("eager")
    found, whole = {}, build_base(config, "meta")
    for name, stack in probed.stacks.items():
        kinds = ("self", "cross") if name == "decoder" and len(probed.stacks) == 2 else ("self",)
        attention = _watched_sites(model, name, stack, kinds)
        if attention is None or not _all_have(whole, model, stack.blocks, attention):
            return {key: replace(other, attention={}) for key, other in probed.stacks.items()}
        found[name] = replace(stack, attention=attention)
    return found


def _watched_sites(
    model: PreTrainedModel, name: str, stack: LayerStack, kinds: tuple[str, ...]
) -> dict[str, AttentionSite] | None:
    """Return by kind the attentions of each block; None if blocks differ, or one is not exact."""
    blocks, ids = [*model.get_submodule(stack.blocks)], text(model)
    ids = torch.cat([ids, ids.flip(-1)])
    calls, output = _watch(model, blocks, ids)
    others, _ = _watch(model, blocks, torch.stack([ids[0], ids[1].roll(1)]))
    paths = [[call.path for call in block] for block in calls]
    if any(block != paths[0] for block in paths) or len(paths[0]) != len(kinds):
        return None
    sites = {}
    for i, (kind, path) in enumerate(zip(kinds, paths[0], strict=True)):
        own = _own_weights(output, name if kind == "self" else kind, len(blocks))
        if not all(_is_exact(calls[n][i], others[n][i], own[n]) for n in range(len(blocks))):
            return None
        while isinstance(blocks[0].get_submodule(".".join(path)), nn.ModuleList):
            path = path[:-1]
        num_heads, heads = model.config.num_attention_heads, record_watched(calls[0][i], 2).query.shape[1]
        if num_heads % heads:
            return None
        sites[kind] = AttentionSite(".".join(path), is_watched=True, head_ratio=num_heads // heads)
    return sites


def _all_have(whole: PreTrainedModel, tiny: PreTrainedModel, blocks: str, attention: dict[str, AttentionSite]) -> bool:
    """Return whether all blocks of a model have the attention modules that were watched in a tiny one of its family.

    Those of a hybrid do not, and those of a model that replaces them when it runs (BigBird).
    """
    modules = [module for block in whole.get_submodule(blocks) for module in _sites(block, attention)]
    watched = [module for block in tiny.get_submodule(blocks) for module in _sites(block, attention)]
    return {type(module) for module in modules} == {type(module) for module in watched}


def _sites(block: nn.Module, attention: dict[str, AttentionSite]) -> list[nn.Module | None]:
    modules = dict(block.named_modules())
    return [modules.get(site.module) for site in attention.values()]


def _is_exact(call: WatchedAttention, other: WatchedAttention, own: Tensor | None) -> bool:
    """Return whether the weights and the value that would be recorded are those with which the model computes.

    Args:
        call: the attention of two texts.
        other: that of the first one and another second one.
        own: the weights that the model returns for the first two, if it does.
    """
    attention, again = record_watched(call, 2), record_watched(other, 2)
    weights, value = _weights(attention), attention.value
    product = weights @ value.repeat_interleave(weights.shape[1] // value.shape[1], 1)
    rows = attention.mask.any(-1).expand(weights.shape[:3])
    if not torch.allclose(product[rows], by_head(call.context, 2)[rows], atol=1e-5):
        return False
    expected = _weights(again)[0] if own is None else own
    actual = weights[0] if own is None else weights
    rows = rows[: len(expected)] if own is not None else rows[0]
    return actual.shape == expected.shape and torch.allclose(actual[rows], expected[rows], atol=1e-5)


def _weights(attention: RecordedAttention) -> Tensor:
    return attention.scores.masked_fill(~attention.mask, torch.finfo(torch.float32).min).softmax(-1)


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
            return calls, Pass().run(model, [], ids, attention_mask=mask, output_attentions=True)
    except (TypeError, ValueError):  # it does not return its weights
        with _watching(blocks) as calls:
            return calls, Pass().run(model, [], ids, attention_mask=mask)


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
