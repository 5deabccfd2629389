"""Attention without a softmax over pairs: queries and keys become features, and the keys are summed up first."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from students.attention.softmax import AttentionArgs, split_chunks

CHUNK = 64
"""Tokens of a decoder whose pairs are computed one by one; what lies before them is summed up."""


def linear_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """``Q (K^T V) / (Q sum K)`` for features [B, A, S, F] that are not negative, and values [B, A, S, D].

    A causal one gives a query the sums up to its own place, as the recurrence over tokens does (Katharopoulos 2020,
    arXiv 2006.16236); fewer queries than keys are the last ones.
    """
    asked = query.shape[2]
    floor = torch.finfo(query.dtype).tiny
    if not causal or asked == 1:
        total = (query @ key.sum(2, keepdim=True).mT).clamp(min=floor)
        return query @ (key.mT @ value) / total
    length = key.shape[2]
    query = F.pad(query, (0, 0, length - asked, 0))
    total = (query * key.cumsum(2)).sum(-1, keepdim=True).clamp(min=floor)
    q, k, v = (split_chunks(tensor, CHUNK) for tensor in (query, key, value))
    sums = k.mT @ v
    before = sums.cumsum(2) - sums
    found = ((q @ k.mT).tril() @ v + q @ before).flatten(2, 3)[:, :, :length]
    return (found / total)[:, :, length - asked :]


def random_features(tensor: Tensor, directions: Tensor, present: Tensor | None = None) -> Tensor:
    """Positive features [B, A, S, F] whose products are ``exp(x . y)`` in expectation, up to a factor for each query
    and one for all keys, which cancels in ``linear_attention``: FAVOR+ (Choromanski 2021, arXiv 2009.14794).

    Args:
        tensor: [B, A, S, D].
        directions: [F, D], each of them normally distributed.
        present: of keys, boolean [B, S], those that are no padding; of queries None.
    """
    # The constant on the left: ONNX Runtime's int8 takes one on the right for a layer, and would round it.
    powers = (directions @ tensor.mT).mT - tensor.square().sum(-1, keepdim=True) / 2
    if present is None:
        return (powers - powers.amax(-1, keepdim=True)).exp()
    powers = powers.masked_fill(~present[:, None, :, None], torch.finfo(powers.dtype).min)
    return (powers - powers.amax((-2, -1), keepdim=True)).exp()


def orthogonal_directions(count: int, size: int) -> Tensor:
    """Directions [count, size] that are normally distributed each, and orthogonal within every ``size`` of them."""
    blocks = []
    for _ in range(0, count, size):
        q, r = torch.linalg.qr(torch.randn(size, size))
        blocks.append((q * r.diagonal().sign()).T)  # else some directions are likelier than others (Mezzadri 2007)
    return torch.cat(blocks)[:count] * torch.randn(count, size).norm(dim=1, keepdim=True)


class _LinearCore(nn.Module, ABC):
    """In float32, whatever the precision around it: sums over a long text outgrow a half."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor, arguments: AttentionArgs) -> Tensor:
        kind = value.dtype
        with torch.autocast(query.device.type, enabled=False):
            if kind in (torch.float16, torch.bfloat16):
                query, key, value = query.float(), key.float(), value.float()
            return self.attend(query, key, value, present, arguments).to(kind)

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor, arguments: AttentionArgs) -> Tensor:
        """[B, A, Sq, D], of tensors that are float32 at least."""


class EluCore(_LinearCore):
    """``phi(x) = elu(x) + 1`` of queries and keys (Katharopoulos 2020, arXiv 2006.16236); no scale, no dropout."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor, arguments: AttentionArgs) -> Tensor:
        query, key = F.elu(query) + 1, F.elu(key) + 1
        return linear_attention(query, torch.where(present[:, None, :, None], key, 0.0), value, arguments.causal)


class FavorCore(_LinearCore):
    """An estimate of softmax attention by ``features`` random directions, drawn once and kept (Choromanski 2021, arXiv
    2009.14794); no dropout.
    """

    def __init__(self, features: int, size: int):
        super().__init__()
        self.register_buffer("directions", orthogonal_directions(features, size))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor, arguments: AttentionArgs) -> Tensor:
        directions = self.directions.to(query.dtype)
        query, key = query * arguments.scale**0.5, key * arguments.scale**0.5
        features = random_features(query, directions), random_features(key, directions, present)
        return linear_attention(*features, value, arguments.causal)


class EfficientCore(_LinearCore):
    """``softmax(Q) (softmax(K)^T V)``, queries over their dimensions and keys over the text (Shen 2018, arXiv
    1812.01243; equation 69 of Gupta and Agrawal closes the second softmax too late); no scale, no dropout.
    """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor, arguments: AttentionArgs) -> Tensor:
        key = key.masked_fill(~present[:, None, :, None], torch.finfo(key.dtype).min)
        return query.softmax(-1) @ (key.softmax(-2).mT @ value)
