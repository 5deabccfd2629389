"""Attention in blocks against a mask over all pairs in float64."""

import pytest
import torch

from students.attention.blocks import BlockCore, FixedCore
from tests.helpers.students.queries import HEADS, ask, lengths, qkv, same, softmax


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_own_block_and_summaries_of_all_are_a_mask_over_pairs(causal, plain):
    padding, tensors = lengths(50), qkv(50)
    seen = torch.zeros(50, 50, dtype=torch.bool)
    for i in range(50):
        for j in range(50):
            seen[i, j] = (i // 8 == j // 8 or j % 8 in (6, 7)) and (j <= i or not causal)
    expected = softmax(*tensors, seen & padding[:, None, None], 0.5)
    same(ask(FixedCore(8, 2), tensors, padding, causal, plain), expected, padding)


def test_heads_of_blocks_look_one_way_each():
    assert BlockCore(2, 512, 12).shifts.tolist() == [0] * 10 + [1] * 2
    assert BlockCore(3, 512, 12).shifts.tolist() == [0] * 8 + [1] * 2 + [2] * 2
    assert BlockCore(4, 512, 4).shifts.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_blocks_are_a_mask_over_pairs(blocks, plain):
    """A row has as many blocks as its own length needs, and they stand in a circle."""
    padding, tensors = lengths(45), qkv(45)
    size = -(-60 // blocks)
    seen = torch.zeros(3, HEADS, 45, 45, dtype=torch.bool)
    for row in range(3):
        count = -(-int(padding[row].sum()) // size)
        for head, shift in enumerate(BlockCore(blocks, 60, HEADS).shifts.tolist()):
            for i in range(45):
                for j in range(45):
                    seen[row, head, i, j] = padding[row, j] and j // size == (i // size + shift) % count
    same(ask(BlockCore(blocks, 60, HEADS), tensors, padding, False, plain), softmax(*tensors, seen, 0.5), padding)
