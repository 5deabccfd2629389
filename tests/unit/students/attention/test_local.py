"""A window of attention against a mask over all pairs in float64."""

import pytest
import torch
from torch import Tensor

from students.attention.local import LocalCore
from tests.helpers.students.queries import ask, lengths, qkv, same, softmax


def local_pairs(padding: Tensor, half: int, first: int, causal: bool) -> Tensor:
    """Who sees whom, pair by pair."""
    batch, length = padding.shape
    seen = torch.zeros(batch, 1, length, length, dtype=torch.bool)
    for row in range(batch):
        tokens = padding[row].nonzero().flatten().tolist()
        chosen = set(tokens[:first])
        for i in tokens:
            for j in tokens:
                near = abs(i - j) <= half or j in chosen or i in chosen
                seen[row, 0, i, j] = near and (j <= i or not causal)
    return seen


@pytest.fixture
def by_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of long texts also where a short one would take another."""
    monkeypatch.setattr("torch.compiler.is_exporting", lambda: True)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window, first", [(12, 1), (40, 3), (80, 0)])
def test_a_window_is_a_mask_over_pairs(window, first, causal, left, plain):
    padding = lengths(130, left)
    tensors = qkv(130)
    expected = softmax(*tensors, local_pairs(padding, window // 2, first, causal), 0.5)
    same(ask(LocalCore(window, first), tensors, padding, causal, plain), expected, padding)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 31, 60])
def test_a_window_of_twice_the_length_is_full_attention(length, causal, by_chunks):
    padding, tensors = lengths(length), qkv(length)
    seen = padding[:, None, None] & (torch.ones(length, length).tril().bool() if causal else torch.tensor(True))
    same(ask(LocalCore(120, 1), tensors, padding, causal, False), softmax(*tensors, seen, 0.5), padding)


def test_more_global_tokens_than_there_are_tokens(by_chunks):
    padding, tensors = lengths(40), qkv(40)
    same(ask(LocalCore(4, 60), tensors, padding, False, False), softmax(*tensors, padding[:, None, None], 0.5), padding)
