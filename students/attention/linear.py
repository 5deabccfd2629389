"""Linear attention: queries and keys become feature vectors, and keys are summed over the text first."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from students.attention.softmax import AttentionArgs, split_chunks

CHUNK = 64
"""Tokens of a decoder whose pairs are computed explicitly; earlier tokens enter by their sums."""


def linear_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """Return ``Q (K^T V) / (Q sum K)``, [B, A, Sq, D].

    With ``causal``, the sums of a query end at its own position, as in the recurrence over tokens (Katharopoulos 2020,
    arXiv 2006.16236).

    Args:
        query: nonnegative features [B, A, Sq, F]; if there are fewer queries than keys, they are the last ones.
        key: nonnegative features [B, A, Sk, F].
        value: [B, A, Sk, D].
        causal: whether to mask later keys.
    """
    queries = query.shape[2]
    floor = torch.finfo(query.dtype).tiny
    if not causal or queries == 1:
        total = (query @ key.sum(2, keepdim=True).mT).clamp(min=floor)
        return query @ (key.mT @ value) / total
    length = key.shape[2]
    query = F.pad(query, (0, 0, length - queries, 0))
    total = (query * key.cumsum(2)).sum(-1, keepdim=True).clamp(min=floor)
    q, k, v = (split_chunks(tensor, CHUNK) for tensor in (query, key, value))
    sums = k.mT @ v
    before = sums.cumsum(2) - sums
    output = ((q @ k.mT).tril() @ v + q @ before).flatten(2, 3)[:, :, :length]
    return (output / total)[:, :, length - queries :]


def random_features(tensor: Tensor, directions: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Return positive random features [B, A, S, F]: FAVOR+ (Choromanski 2021, arXiv 2009.14794).

    Their products are ``exp(x . y)`` in expectation, up to a factor per query and one for all keys, which cancel in
    ``linear_attention``.

    Args:
        tensor: [B, A, S, D].
        directions: [F, D], normally distributed.
        attention_mask: for keys boolean [B, S], True = token; None for queries.
    """
    # The constant on the left: ONNX Runtime takes one on the right for a linear layer, and would quantize it.
    powers = (directions @ tensor.mT).mT - tensor.square().sum(-1, keepdim=True) / 2
    if attention_mask is None:
        return (powers - powers.amax(-1, keepdim=True)).exp()
    powers = powers.masked_fill(~attention_mask[:, None, :, None], torch.finfo(powers.dtype).min)
    return (powers - powers.amax((-2, -1), keepdim=True)).exp()


def orthogonal_directions(count: int, size: int) -> Tensor:
    """Return normally distributed directions [count, size] that are orthogonal within every ``size`` of them."""
    blocks = []
    for _ in range(0, count, size):
        q, r = torch.linalg.qr(torch.randn(size, size))
        blocks.append((q * r.diagonal().sign()).T)  # else some directions are likelier than others (Mezzadri 2007)
    return torch.cat(blocks)[:count] * torch.randn(count, size).norm(dim=1, keepdim=True)


class _LinearCore(nn.Module, ABC):
    """Linear attention in float32 under any autocast: sums over a long text overflow half precision."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, arguments: AttentionArgs
    ) -> Tensor:
        dtype = value.dtype
        with torch.autocast(query.device.type, enabled=False):
            if dtype in (torch.float16, torch.bfloat16):
                query, key, value = query.float(), key.float(), value.float()
            return self.attend(query, key, value, attention_mask, arguments).to(dtype)

    @abstractmethod
    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, arguments: AttentionArgs
    ) -> Tensor:
        """Return the attention output [B, A, Sq, D], of tensors in float32 or float64."""


class EluCore(_LinearCore):
    """Linear attention of features ``elu(x) + 1`` (Katharopoulos 2020, arXiv 2006.16236); no scale, no dropout."""

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, arguments: AttentionArgs
    ) -> Tensor:
        query, key = F.elu(query) + 1, F.elu(key) + 1
        return linear_attention(query, torch.where(attention_mask[:, None, :, None], key, 0.0), value, arguments.causal)


class FavorCore(_LinearCore):
    """Softmax attention estimated by ``features`` random features, drawn once (Choromanski 2021, arXiv 2009.14794).

    There is no dropout.
    """

    def __init__(self, features: int, size: int):
        super().__init__()
        self.register_buffer("directions", orthogonal_directions(features, size))

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, arguments: AttentionArgs
    ) -> Tensor:
        directions = self.directions.to(query.dtype)
        query, key = query * arguments.scale**0.5, key * arguments.scale**0.5
        features = random_features(query, directions), random_features(key, directions, attention_mask)
        return linear_attention(*features, value, arguments.causal)


class EfficientCore(_LinearCore):
    """Attention ``softmax(Q) (softmax(K)^T V)``, over the dimensions of Q and the tokens of K; no scale, no dropout.

    Shen 2018, arXiv 1812.01243 (equation 69 of the survey of Gupta and Agrawal closes the second softmax too late).
    """

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, arguments: AttentionArgs
    ) -> Tensor:
        key = key.masked_fill(~attention_mask[:, None, :, None], torch.finfo(key.dtype).min)
        return query.softmax(-1) @ (key.softmax(-2).mT @ value)
