"""Fewer queries than keys are the last ones, in every attention."""

import pytest
import torch

from students.attention.blocks import FixedCore
from students.attention.linear import EluCore, FavorCore
from students.attention.local import LocalCore
from tests.helpers.students.queries import WIDTH, ask, lengths, qkv, same


@pytest.mark.parametrize(
    "attention",
    [LocalCore(8, 1), FixedCore(8, 2), EluCore(), FavorCore(16, WIDTH)],
    ids=lambda module: type(module).__name__,
)
@pytest.mark.parametrize("asked", [1, 7])
def test_fewer_queries_than_keys_are_the_last_ones(attention, asked):
    """As in generation, when what came before is in the cache."""
    padding = lengths(100, left=not isinstance(attention, FixedCore))
    if isinstance(attention, FixedCore):
        padding = torch.ones_like(padding)
    attention = attention.double()
    expected = ask(attention, qkv(100), padding, True, False)
    same(ask(attention, qkv(100, asked), padding, True, False), expected[:, :, -asked:], padding)
