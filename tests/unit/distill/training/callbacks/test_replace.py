"""The teacher's blocks in the student: exact at both ends, trained only where its own ran, and no trace left behind."""

import copy

import pytest
import torch
from torch import nn

from distill.training.callbacks.replace import BlockReplacement, block_groups, draw_blocks
from students.families.families import blocks
from students.forms.attention import LinearAttention, LocalAttention
from students.kinds.transformer import Transformer
from students.recording.signals import Signals
from students.recording.trace import Recorder
from tests.helpers.families import FAMILIES, batch, tiny

REPLACEABLE = [name for name in FAMILIES if name not in ("albert", "t5")]


def pair(name: str, runs: list[bool], **sizes: int):
    """A teacher of 5 blocks, a student of 2 in train mode without dropout, and what chooses between their blocks."""
    teacher = tiny(name, layers=5).requires_grad_(False)
    student = Transformer(layers=2, **sizes).build(teacher, None, None)
    with torch.no_grad():
        for block in blocks(student):
            for parameter in block.parameters():
                parameter.mul_(0.9)
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for module in student.modules():
        for key in ("attention_dropout", "dropout_prob"):
            if isinstance(getattr(module, key, None), float):
                setattr(module, key, 0.0)
    alone = copy.deepcopy(student)
    replace = BlockReplacement(None, teacher)
    replace.attach(student)
    replace.runs = runs
    return teacher, student, alone, replace


def traced(model, name: str, signals: Signals | None = None):
    return Recorder(model).trace(batch(name), signals or Signals(logits=True))


@pytest.mark.parametrize("name", REPLACEABLE)
def test_none_of_its_own_blocks_makes_it_the_teacher_and_all_the_student(name: str) -> None:
    teacher, student, alone, replace = pair(name, [False, False])
    expected = traced(teacher, name).logits
    assert torch.equal(traced(student, name).logits, expected)
    replace.runs = [True, True]
    logits = traced(student, name).logits
    assert torch.equal(logits, traced(alone, name).logits)
    assert not torch.allclose(logits, expected)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_its_second_block_stands_for_the_last_two_of_five(name: str) -> None:
    teacher, student, alone, _ = pair(name, [True, False])
    hybrid = copy.deepcopy(teacher)
    (container,) = {id(m): m for m in hybrid.modules() if isinstance(m, nn.ModuleList) and len(m) == 5}.values()
    first_block = blocks(alone)[0]
    first_block.train()
    container._modules.clear()
    for block in [first_block, *blocks(copy.deepcopy(teacher))[3:]]:
        container.append(block)
    if hasattr(hybrid.config, "num_hidden_layers"):
        hybrid.config.num_hidden_layers = 3
    trace = traced(student, name, Signals(logits=True, hidden=frozenset({("encoder", 1)} if name == "bert" else {})))
    torch.testing.assert_close(trace.logits, traced(hybrid, name).logits, rtol=0, atol=0)


def test_in_evaluation_it_is_alone() -> None:
    _, student, alone, _ = pair("bert", [False, False])
    assert torch.equal(traced(student.eval(), "bert").logits, traced(alone.eval(), "bert").logits)


def test_gradients_go_through_the_teachers_blocks_into_those_that_ran() -> None:
    teacher, student, _, _ = pair("bert", [True, False])
    traced(student, "bert").logits.square().sum().backward()
    first, second = blocks(student)
    assert all(p.grad is not None and p.grad.any() for p in first.parameters() if p.ndim > 1)
    assert all(p.grad is None for p in second.parameters())
    assert all(p.grad is not None for n, p in student.named_parameters() if "embeddings.word" in n or "classifier" in n)
    assert all(p.grad is None for p in teacher.parameters())


def test_hidden_states_are_those_of_whichever_ran() -> None:
    teacher, student, _, _ = pair("bert", [False, False])
    states = traced(student, "bert", Signals(hidden=frozenset({("encoder", 1), ("encoder", 2)}))).hidden
    expected = traced(teacher, "bert", Signals(hidden=frozenset({("encoder", 3), ("encoder", 5)}))).hidden
    assert torch.equal(states["encoder", 1], expected["encoder", 3])
    assert torch.equal(states["encoder", 2], expected["encoder", 5])


def test_nothing_of_the_teacher_belongs_to_the_student() -> None:
    teacher, student, alone, replace = pair("bert", [False, False])
    assert student.state_dict().keys() == alone.state_dict().keys()
    assert {id(p) for p in student.parameters()}.isdisjoint(id(p) for p in teacher.parameters())
    replace.detach()
    assert all("forward" not in vars(block) for block in blocks(student))
    assert torch.equal(traced(student, "bert").logits, traced(alone, "bert").logits)


def test_draws_are_a_function_of_seed_and_step_and_as_frequent_as_asked() -> None:
    assert draw_blocks(5, 0.5, 1, 7) == draw_blocks(5, 0.5, 1, 7)
    assert len({tuple(draw_blocks(20, 0.5, seed, step)) for seed in (0, 1) for step in range(5)}) == 10
    share = sum(sum(draw_blocks(10, 0.3, 0, step)) for step in range(2000)) / 20000
    assert share == pytest.approx(0.3, abs=0.01)
    for step in range(100):
        assert draw_blocks(3, 1.0, 0, step) == [True] * 3 and draw_blocks(3, 0.0, 0, step) == [False] * 3


@pytest.mark.parametrize(
    "student, teacher, message",
    [
        (tiny("bert", hidden=24), tiny("bert"), "needs a student with the teacher's hidden_size, 32, not 24"),
        (tiny("bert", layers=3), tiny("bert"), "the student has 3 blocks, and the teacher only 2"),
        (tiny("roberta"), tiny("bert"), "blocks of a roberta cannot replace those of a bert"),
        (tiny("t5"), tiny("t5"), "the blocks of a t5 share a position bias"),
        (tiny("albert"), tiny("albert"), "a block of a albert runs several times"),
        (tiny("llama", heads=2), tiny("llama"), "needs a student with the teacher's head_dim, 8, not 16"),
        (
            Transformer(attention=LinearAttention()).build(tiny("bert"), None, None),
            tiny("bert"),
            "needs a student with the teacher's attention, full attention, not LinearAttention",
        ),
        (
            tiny("bert"),
            Transformer(attention=LocalAttention()).build(tiny("bert"), None, None),
            "needs a student with the teacher's attention, LocalAttention, not full attention",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_blocks_that_cannot_stand_there_are_refused(student, teacher, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        block_groups(student, teacher)
