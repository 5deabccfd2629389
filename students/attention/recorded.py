"""Bring a watched attention into the layout of a trace."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from students.attention.watch import WatchedAttention

_HIDDEN, _FAR_BELOW = -9_000.0, 1_000.0
"""A score under the first, or by the second below the highest one of its query, is masked: models add -10,000, or the
lowest number of a type. The weight of such a key is 0 in any precision."""


class RecordedAttention(NamedTuple):
    """A watched attention: query [B, A, Sq, D]; key, value [B, A or fewer, Sk, D]; scores in float32."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor
    """Boolean, True = visible, [B, 1, Sq, Sk]."""
    scale: float
    scores: Tensor
    """What the model puts into its softmax, 0 where it is masked, [B, A, Sq, Sk]."""
    sink: Tensor | None
    """What it puts there beside the scores, as one column: the logarithm of the sum of exponentials, [B, A, Sq, 1]."""


def record_watched(watched: WatchedAttention, rows: int) -> RecordedAttention:
    """Return a watched attention in the layout of a trace, as part of the graph.

    Args:
        watched: the attention.
        rows: number of texts in the batch, B.

    Raises:
        ValueError: if its shapes are not those of an attention of all texts.
    """
    masked, value = (by_head(tensor, rows) for tensor in (watched.scores, watched.value))
    query, key = (
        by_head(tensor if factor == 1 else tensor / factor, rows)
        for tensor, factor in zip((watched.query, watched.key), watched.factors, strict=True)
    )
    heads, num_queries, num_keys = masked.shape[1:]
    shapes = [tensor.shape[:1] + tensor.shape[2:-1] for tensor in (query, key, value)]
    if shapes != [(rows, num_queries), (rows, num_keys), (rows, num_keys)] or query.shape[1] != heads:
        raise ValueError(
            f"scores {tuple(masked.shape)} do not fit a query {tuple(query.shape)}, key {tuple(key.shape)}"
        )
    if any(heads % tensor.shape[1] for tensor in (key, value)):
        raise ValueError(f"{heads} heads do not share {key.shape[1]} keys and {value.shape[1]} values")
    with torch.no_grad():
        hidden = (masked < masked.amax(-1, keepdim=True) - _FAR_BELOW) | (masked < _HIDDEN)
        hidden = hidden.all(1, keepdim=True)
    scores = masked.float().masked_fill(hidden, 0.0)
    sink = None if watched.sink is None else by_head(watched.sink, rows).float().logsumexp(-1, keepdim=True)
    return RecordedAttention(query, key, value, ~hidden, watched.scale, scores, sink)


def join_values(found: list[WatchedAttention]) -> list[WatchedAttention]:
    """Return attentions, those of one module and the same query as one with the values of all, side by side.

    DiffLlama multiplies the weights of a head by two values, in two calls.
    """
    joined: list[WatchedAttention] = []
    for watched in found:
        if joined and joined[-1].query is watched.query and joined[-1].path == watched.path:
            first = joined.pop()
            value = torch.cat([first.value, watched.value], -1)
            context = torch.cat([first.context, watched.context], -1)
            joined.append(replace(first, value=value, context=context))
        else:
            joined.append(watched)
    return joined


def attention_weights(attention: RecordedAttention) -> Tensor:
    """Return the weights of a watched attention: the softmax over keys and sink, without the sink, [B, A, Sq, Sk]."""
    scores = attention.scores.masked_fill(~attention.mask, torch.finfo(torch.float32).min)
    columns = scores if attention.sink is None else torch.cat([scores, attention.sink], -1)
    return columns.softmax(-1)[..., : scores.shape[-1]]


def by_head(tensor: Tensor, rows: int) -> Tensor:
    """Return a tensor [B, A, S, D] from one with batch and heads in one dimension, or grouped heads in two."""
    if tensor.ndim == 5:
        tensor = tensor.flatten(1, 2)
    if tensor.ndim == 3 and tensor.shape[0] % rows == 0:
        tensor = tensor.unflatten(0, (rows, -1))
    if tensor.ndim != 4 or tensor.shape[0] not in (1, rows):
        raise ValueError(f"{tuple(tensor.shape)} is no attention of {rows} texts")
    return tensor.expand(rows, -1, -1, -1)
