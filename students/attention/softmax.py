"""Softmax attention over keys that each chunk of queries has for itself."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class AttentionArgs(NamedTuple):
    """What every attention is told beside its queries, keys and values.

    Args:
        scale: of the product of a query and a key.
        causal: a query sees no key after its own place; fewer queries than keys are the last ones.
        dropout: the share of the weights of keys that are dropped.
        plain: the products are written out, for exporters and counters that do not know fused kernels.
    """

    scale: float
    causal: bool = False
    dropout: float = 0.0
    plain: bool = False


def softmax_attention(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, arguments: AttentionArgs) -> Tensor:
    """``softmax(Q K^T * scale) V`` over the keys that are ``seen`` (boolean, broadcast to [..., Sq, Sk]): [..., Sq, D].

    A query that sees no key gives finite numbers that mean nothing.
    """
    if not arguments.plain:
        return F.scaled_dot_product_attention(query, key, value, seen, arguments.dropout, scale=arguments.scale)
    scores = (query @ key.mT * arguments.scale).masked_fill(~seen, torch.finfo(query.dtype).min)
    return F.dropout(scores.softmax(-1), arguments.dropout, arguments.dropout > 0) @ value


def split_chunks(tensor: Tensor, size: int) -> Tensor:
    """[B, A, S, D] as chunks [B, A, C, size, D], the last one filled up with zeros."""
    chunks = (tensor.shape[2] + size - 1) // size  # ONNX divides towards zero: nothing negative here
    return F.pad(tensor, (0, 0, 0, chunks * size - tensor.shape[2])).unflatten(2, (chunks, size))


def chunked_attention(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, arguments: AttentionArgs) -> Tensor:
    """Each chunk of queries [B, A, C, size, D] attends to keys of its own [B, A, C, K, D]: [B, A, C * size, D].

    ``seen`` is boolean, [B or 1, A or 1, C, size or 1, K].
    """
    batch, _, chunks = query.shape[:3]
    seen = seen.expand(batch, *seen.shape[1:])
    # chunks become rows of the batch, the only layout that fused kernels know
    rows = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value, seen)]
    found = softmax_attention(*rows, arguments)
    return found.unflatten(0, (batch, chunks)).transpose(1, 2).flatten(2, 3)
