"""Softmax attention, over all keys or over the keys of each chunk of queries."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class AttentionArgs(NamedTuple):
    """The arguments of attention beside queries, keys and values."""

    scale: float
    """Of the product of a query and a key."""
    causal: bool = False
    """A query attends to no later key; if there are fewer queries than keys, they are the last ones."""
    dropout: float = 0.0
    """The probability with which an attention weight is dropped."""
    eager: bool = False
    """Compute the products explicitly, for exporters and FLOP counters that do not know fused kernels."""


def softmax_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, arguments: AttentionArgs) -> Tensor:
    """Return ``softmax(Q K^T * scale) V`` over the keys in ``mask``, [..., Sq, D].

    A query without a key gives finite numbers without meaning.

    Args:
        query: [..., Sq, D].
        key: [..., Sk, D].
        value: [..., Sk, D].
        mask: boolean, True = visible, broadcast to [..., Sq, Sk].
        arguments: scale, dropout and kernel; ``causal`` is not used here.
    """
    if not arguments.eager:
        return F.scaled_dot_product_attention(query, key, value, mask, arguments.dropout, scale=arguments.scale)
    scores = (query @ key.mT * arguments.scale).masked_fill(~mask, torch.finfo(query.dtype).min)
    return F.dropout(scores.softmax(-1), arguments.dropout, arguments.dropout > 0) @ value


def split_chunks(tensor: Tensor, size: int) -> Tensor:
    """Split [B, A, S, D] into chunks [B, A, C, size, D]; the last one is padded with zeros."""
    chunks = (tensor.shape[2] + size - 1) // size  # ONNX divides towards zero: nothing negative here
    padded = F.pad(tensor, (0, 0, 0, chunks * size - tensor.shape[2]))
    split: Tensor = padded.unflatten(2, (chunks, size))
    return split


def chunked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, arguments: AttentionArgs) -> Tensor:
    """Attend from each chunk of queries to the keys of that chunk, [B, A, C * size, D].

    Args:
        query: [B, A, C, size, D].
        key: [B, A, C, K, D].
        value: [B, A, C, K, D].
        mask: boolean, True = visible, [B or 1, A or 1, C, size or 1, K].
        arguments: as in ``softmax_attention``.
    """
    batch, _, chunks = query.shape[:3]
    mask = mask.expand(batch, *mask.shape[1:])
    # chunks become rows of the batch, the only layout that fused kernels know
    query, key, value, mask = (tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value, mask))
    output: Tensor = softmax_attention(query, key, value, mask, arguments).unflatten(0, (batch, chunks))
    return output.transpose(1, 2).flatten(2, 3)
