"""Random queries, keys and values in float64, and attention over all pairs of them."""

import math

import torch
from torch import Tensor

from students.attention.softmax import AttentionArgs

HEADS, WIDTH = 4, 8


def qkv(length: int, asked: int | None = None, heads: int = HEADS) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    made = [torch.randn(3, heads, length, WIDTH, generator=draw, dtype=torch.float64) for _ in range(3)]
    return [made[0][:, :, -(asked or length) :], *made[1:]]


def lengths(length: int, left: bool = False) -> Tensor:
    """Three rows, the first of them full."""
    short = torch.arange(length) < torch.tensor([length, length * 2 // 3, 5])[:, None]
    return short.flip(1) if left else short


def softmax(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scale: float) -> Tensor:
    """Over all pairs that are seen, [B, A or 1, Sq, Sk]."""
    scores = query @ key.mT * scale
    return torch.where(seen, scores, -math.inf).softmax(-1).nan_to_num() @ value


def ask(attention: torch.nn.Module, tensors: list[Tensor], padding: Tensor, causal: bool, plain: bool) -> Tensor:
    return attention(*tensors, padding, AttentionArgs(0.5, causal, eager=plain))


def same(outputs: Tensor, expected: Tensor, padding: Tensor) -> None:
    """At the places that are tokens; elsewhere it is finite, for it goes on to the next layer."""
    assert outputs.isfinite().all()
    tokens = padding[:, None, -outputs.shape[2] :, None]
    torch.testing.assert_close(
        torch.where(tokens, outputs, 0.0), torch.where(tokens, expected, 0.0), rtol=1e-9, atol=1e-9
    )
