"""Fewer queries than keys are the last ones, in every attention."""

import pytest
import torch

from students.attention.blocks import Fixed
from students.attention.linear import Elu, Favor
from students.attention.local import Local
from tests.helpers.students.queries import WIDTH, ask, lengths, qkv, same


@pytest.mark.parametrize(
    "attention", [Local(8, 1), Fixed(8, 2), Elu(), Favor(16, WIDTH)], ids=lambda module: type(module).__name__
)
@pytest.mark.parametrize("asked", [1, 7])
def test_fewer_queries_than_keys_are_the_last_ones(attention, asked):
    """As in generation, when what came before is in the cache."""
    padding = lengths(100, left=not isinstance(attention, Fixed))
    if isinstance(attention, Fixed):
        padding = torch.ones_like(padding)
    attention = attention.double()
    whole = ask(attention, qkv(100), padding, True, False)
    same(ask(attention, qkv(100, asked), padding, True, False), whole[:, :, -asked:], padding)
