"""Relations between tokens, against loops in float64 over real traces, and against attention itself."""

import math

import pytest
import torch

from losses.pairs.attention import AttentionKL
from losses.pairs.relations import Relations, relation_scores
from students.recording.signals import Attention
from tests.helpers.families import batch, tiny
from tests.helpers.traces import first, look, pair, set_up, sites


def distribution(left: list[list[float]], right: list[list[float]], query: int, keys: range) -> list[float]:
    """The softmax over the keys of ``x y / sqrt(d)``, of vectors by token."""
    scale = math.sqrt(len(left[query]))
    scores = [sum(x * y for x, y in zip(left[query], right[key], strict=True)) / scale for key in keys]
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def vectors(attention: Attention, letter: str, row: int, head: int, heads: int) -> list[list[float]]:
    """By token, the part of the joined heads that belongs to a relation head."""
    tensor = {"q": attention.query, "k": attention.key, "v": attention.value}[letter].detach().double()
    joined = [
        [x for a in range(tensor.shape[1]) for x in tensor[row, a, token].tolist()] for token in range(tensor.shape[2])
    ]
    size = len(joined[0]) // heads
    return [vector[head * size : (head + 1) * size] for vector in joined]


def reference(student: Attention, teacher: Attention, relation: str, heads: int, data: dict, causal: bool) -> float:
    total = 0.0
    for row, length in enumerate(data["attention_mask"].sum(1).tolist()):
        for head in range(heads):
            student_vectors, teacher_vectors = (
                [vectors(a, letter, row, head, heads) for letter in relation] for a in (student, teacher)
            )
            for query in range(length):
                keys = range(query + 1) if causal else range(length)
                q, p = distribution(*student_vectors, query, keys), distribution(*teacher_vectors, query, keys)
                total += sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 0) / heads
    return total


@pytest.mark.parametrize("relations", [["qq", "kk", "vv"], ["qk", "vv"]])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("heads", [2, 8])
def test_sum_over_tokens_layers_and_relations(relations, family, heads):
    student, teacher = tiny(family, layers=2, hidden=24, heads=3), tiny(family, layers=4, hidden=32, heads=4)
    data = batch(family, length=6)
    loss = set_up(Relations(layers={1: 2, 2: 4}, relations=relations, heads=heads), student, teacher)
    student_trace, teacher_trace = look(loss, student, teacher, data)
    expected = sum(
        reference(student_trace.attention[s], teacher_trace.attention[t], relation, heads, data, family == "gpt2")
        for s, t in sites(loss)
        for relation in relations
    )
    value, count = loss(student_trace, teacher_trace, data, first(loss))
    assert float(value.detach()) == pytest.approx(expected, rel=1e-4)
    assert count == data["attention_mask"].sum()


def total(loss, family):
    student, teacher, data = *pair(family), batch(family)
    set_up(loss, student, teacher)
    return loss(*look(loss, student, teacher, data), data, first(loss))[0].detach()


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_query_to_key_with_the_heads_of_the_model_is_its_attention(family):
    torch.testing.assert_close(total(Relations(relations=["qk"]), family), total(AttentionKL(), family))


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_minilm_is_attention_and_value_relation(family):
    both = total(AttentionKL(), family) + total(Relations(relations=["vv"]), family)
    torch.testing.assert_close(total(Relations(relations=["qk", "vv"]), family), both)


def test_relation_scores_of_one_head_are_the_scaled_products():
    x, y = torch.randn(2, 2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    joined = [z.transpose(1, 2).reshape(2, 5, 12).double() for z in (x, y)]
    expected = (joined[0] @ joined[1].transpose(1, 2) / math.sqrt(12)).float()
    torch.testing.assert_close(relation_scores(x, y, 1), expected[:, None])


def test_the_student_has_as_many_relation_heads_as_heads_by_default():
    student, teacher = tiny("bert", hidden=24, heads=2), tiny("bert", hidden=32, heads=4)
    assert set_up(Relations(), student, teacher).relation_heads == 2


@pytest.mark.parametrize("heads, at_fault", [(5, "student's width of 24"), (12, "teacher's width of 32")])
def test_relation_heads_divide_both_widths(heads, at_fault):
    with pytest.raises(ValueError, match=rf"^heads: {heads} relation heads do not divide the {at_fault}"):
        set_up(Relations(heads=heads), *pair("bert"))


@pytest.mark.parametrize("heads", [0, -4])
def test_relation_heads_are_at_least_one(heads):
    with pytest.raises(ValueError, match=r"^heads: "):
        Relations(heads=heads)


def test_no_relation_is_no_loss():
    with pytest.raises(ValueError, match=r"^relations: "):
        Relations(relations=[])
