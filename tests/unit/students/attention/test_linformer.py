"""A Linformer against a softmax over projected keys in float64."""

import pytest
import torch

from students.attention.linformer import LinformerCore
from tests.helpers.students.queries import ask, lengths, qkv, same, softmax


@pytest.mark.parametrize("shared", [False, True])
def test_a_linformer_is_softmax_over_projected_keys(shared):
    torch.manual_seed(0)
    attention = LinformerCore(6, 40, shared).double()
    torch.nn.init.normal_(attention.keys)
    projections = [attention.keys, attention.keys if shared else torch.nn.init.normal_(attention.values)]
    query, key, value = tensors = qkv(40)
    key, value = (torch.einsum("kn,bhnd->bhkd", e, x) for e, x in zip(projections, (key, value), strict=True))
    expected = softmax(query, key, value, torch.tensor(True), 0.5)
    padding = torch.ones(3, 40, dtype=torch.bool)
    same(ask(attention, tensors, padding, False, False).detach(), expected.detach(), padding)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("length", [5, 30, 40])
def test_a_linformer_of_as_many_keys_as_positions_begins_as_full_attention(length, plain):
    padding, tensors = lengths(length), qkv(length)
    actual = ask(LinformerCore(40, 40, False).double(), tensors, padding, False, plain).detach()
    same(actual, softmax(*tensors, padding[:, None, None], 0.5), padding)


def test_a_linformer_begins_with_means_over_pieces():
    expected = torch.zeros(2, 5)
    expected[0, :3], expected[1, 3:] = 1 / 3, 1 / 2
    assert torch.equal(LinformerCore(2, 5, False).keys, expected)


def test_a_linformer_reads_no_more_than_its_positions():
    with pytest.raises(ValueError, match="of 40 positions cannot read 41 tokens"):
        ask(LinformerCore(8, 40, False).double(), qkv(41), lengths(41), False, False)
