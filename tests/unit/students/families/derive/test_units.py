"""The units of a block are found by what follows from what."""

import pytest
import torch
from torch import Tensor, nn

from students.families.derive.cutting import cuts_exactly
from students.families.derive.units import Reader, find_readers
from students.families.parts import Projection


class Block(nn.Module):
    """A gated feed-forward whose gate and values are in one layer, and which may mix neurons."""

    def __init__(self, mixes: bool = False):
        super().__init__()
        self.inner, self.outer, self.mixes = nn.Linear(6, 16), nn.Linear(8, 6, bias=False), mixes

    def forward(self, x: Tensor) -> Tensor:
        gate, values = self.inner(x).chunk(2, dim=-1)
        neurons = gate.sigmoid() * values
        return x + self.outer(neurons.softmax(-1) if self.mixes else neurons)


class Grouped(nn.Module):
    """An attention of two heads of keys, each for two heads of queries, of size 3."""

    def __init__(self):
        super().__init__()
        self.q, self.kv, self.o = nn.Linear(6, 12), nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).view(*x.shape[:2], 4, 3).transpose(1, 2)
        k, v = (
            part.view(*x.shape[:2], 2, 3).transpose(1, 2).repeat_interleave(2, 1) for part in self.kv(x).chunk(2, -1)
        )
        return self.o(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


def readers(block: nn.Module) -> list[Reader]:
    torch.manual_seed(0)
    text = torch.randn(1, 5, 6, requires_grad=True)
    return find_readers(block, lambda: block(text))


def test_neurons_have_a_gate_and_a_value() -> None:
    halves = (Projection("inner", 0, 2), Projection("inner", 1, 2))
    assert readers(Block()) == [Reader("outer", 8, halves, ())]


def test_neurons_that_follow_from_one_another_are_no_units() -> None:
    assert readers(Block(mixes=True)) == []


def test_heads_that_share_a_key_are_one_unit() -> None:
    keys = (Projection("kv", 0, 2), Projection("kv", 1, 2))
    assert readers(Grouped()) == [Reader("o", 2, (Projection("q"),), keys)]
    assert readers(Grouped())[0].mixes_tokens


@pytest.mark.parametrize("mixes", [False, True])
def test_a_cut_is_proved(mixes: bool) -> None:
    """Where a neuron changes the others, its cut is not what its zeros are."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.ModuleList([Block(mixes)]))
    text, (reader,) = torch.randn(1, 5, 6), readers(Block())
    keep = torch.arange(8) != 1
    assert cuts_exactly(model, lambda model: model[0][0](text), "0", reader, keep) is not mixes
