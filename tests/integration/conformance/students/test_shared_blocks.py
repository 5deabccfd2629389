"""A student with shared layers computes what equal blocks compute, in every family."""

import pytest
import torch

from tests.helpers.families import tiny
from tests.helpers.students.shared import SHARING, WAYS, build, logits


def apart(model, name, layers=4):
    """A stock model of the same weights, in which each block has its own."""
    stock = tiny(name, layers=layers)
    stock.load_state_dict(model.state_dict())
    return stock


@pytest.mark.parametrize("fields", WAYS, ids=str)
@pytest.mark.parametrize("name", SHARING)
def test_it_computes_what_equal_blocks_compute(name, fields):
    student = build(tiny(name, layers=4), **fields)
    assert torch.equal(logits(student, name), logits(apart(student, name), name))
