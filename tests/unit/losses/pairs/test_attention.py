"""The losses on attention, against loops in float64 over real traces."""

import math
from dataclasses import replace

import pytest
import torch

from losses.pairs.attention import AttentionKL, AttentionScores, attention_kl, score_mse
from students.recording.signals import Attention
from tests.helpers.families import batch, tiny
from tests.helpers.traces import first, leaves, look, pair, set_up, sites


def scores(attention: Attention) -> torch.Tensor:
    """``q k * scale + bias`` in float64, [B, A, S, S], by way of loops over heads."""
    q, k = attention.query.detach().double(), attention.key.detach().double()
    groups = q.shape[1] // k.shape[1]
    products = [q[:, head] @ k[:, head // groups].transpose(1, 2) for head in range(q.shape[1])]
    return torch.stack(products, 1) * attention.scale + (0 if attention.bias is None else attention.bias.double())


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(v - max(values)) for v in values]
    return [p / sum(powers) for p in powers]


def reference(kind: type, student: Attention, teacher: Attention, data: dict, causal: bool) -> float:
    """Sum over the tokens; a query sees the keys that are tokens, and of a decoder those before it."""
    student_scores, teacher_scores, total = scores(student), scores(teacher), 0.0
    lengths = data["attention_mask"].sum(1).tolist()
    for row, length in enumerate(lengths):
        for query in range(length):
            keys = range(query + 1) if causal else range(length)
            for head in range(student_scores.shape[1]):
                s, t = ([float(z[row, head, query, key]) for key in keys] for z in (student_scores, teacher_scores))
                if kind is AttentionScores:
                    term = sum((x - y) ** 2 for x, y in zip(s, t, strict=True)) / len(s)
                else:
                    term = sum(p * math.log(p / q) for p, q in zip(softmax(t), softmax(s), strict=True) if p > 0)
                total += term / student_scores.shape[1]
    return total


@pytest.mark.parametrize("kind", [AttentionScores, AttentionKL])
@pytest.mark.parametrize(
    "family, stack",
    [
        ("bert", None),
        ("gpt2", None),
        ("llama", None),
        ("t5", "encoder"),
        ("t5", "decoder"),
        ("t5", "cross"),
    ],
)
def test_sum_over_tokens_and_layers(kind, family, stack):
    student, teacher = pair(family)
    data = batch(family)
    loss = set_up(kind(layers={1: 2, 2: 4}, stack=stack), student, teacher)
    student_trace, teacher_trace = look(loss, student, teacher, data)
    causal = family in ("gpt2", "llama") or stack == "decoder"
    expected = sum(
        reference(kind, student_trace.attention[s], teacher_trace.attention[t], data, causal) for s, t in sites(loss)
    )
    value, count = loss(student_trace, teacher_trace, data, first(loss))
    assert float(value.detach()) == pytest.approx(expected, rel=1e-4)
    assert count == data["attention_mask"].sum()


@pytest.mark.parametrize("distance", [score_mse, attention_kl])
def test_what_cannot_be_seen_counts_nothing(distance):
    student, teacher = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(2, 1, 4, 4, dtype=torch.bool).tril()
    visible[1, :, 2] = False
    wild = student.masked_fill(~visible, -1e30).requires_grad_()
    value = distance(wild, teacher.masked_fill(~visible, 1e30), visible)
    value.sum().backward()
    torch.testing.assert_close(value, distance(student, teacher, visible))
    assert value[1, 2] == 0 and wild.grad.isfinite().all() and not wild.grad[~visible.expand_as(wild)].any()


@pytest.mark.parametrize(
    "distance, slope",
    [
        (score_mse, lambda s, t, n: 2 * (s - t) / (3 * n)),
        (attention_kl, lambda s, t, n: (s.softmax(-1) - t.softmax(-1)) / 3),
    ],
)
def test_gradients(distance, slope):
    s, t = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    s.requires_grad_()
    distance(s, t, torch.ones(1, 1, 4, 4, dtype=torch.bool)).sum().backward()
    torch.testing.assert_close(s.grad, slope(s.detach().double(), t.double(), 4).float())


def test_the_kl_ignores_a_shift_of_the_scores_and_the_squared_error_does_not():
    scores = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    assert attention_kl(scores + 5, scores, visible).abs().max() < 1e-6
    torch.testing.assert_close(score_mse(scores + 5, scores, visible), torch.full((1, 3), 25.0))


@pytest.mark.parametrize("kind", [AttentionScores, AttentionKL])
def test_no_nan_comes_from_a_row_of_padding_that_holds_nan(kind):
    student, teacher = pair("bert")
    data = batch("bert")
    data["attention_mask"][2] = 0
    loss = set_up(kind(layers="top"), student, teacher)
    student_trace, teacher_trace = look(loss, student, teacher, data)
    expected = loss(student_trace, teacher_trace, data, first(loss))[0]
    with torch.no_grad():
        for leaf in leaves(student_trace):
            leaf[2] = math.nan
    value = loss(student_trace, teacher_trace, data, first(loss))[0]
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("kind, layers", [(AttentionScores, [(1, 2), (2, 4)]), (AttentionKL, [(2, 4)])])
def test_the_layers_of_the_papers(kind, layers):
    assert set_up(kind(), *pair("bert")).pairing.pairs == layers


@pytest.mark.parametrize("kind", [AttentionScores, AttentionKL])
@pytest.mark.parametrize("layers", [{0: 1}, {3: 1}, {1: 5}])
def test_a_layer_outside_is_refused_with_both_depths(kind, layers):
    with pytest.raises(ValueError, match=r"^layers: .*student 2 blocks, teacher 4 blocks"):
        set_up(kind(layers=layers), *pair("bert"))


@pytest.mark.parametrize("kind", [AttentionScores, AttentionKL])
def test_unequal_heads_are_sent_to_the_relations(kind):
    with pytest.raises(ValueError, match="student has 2 heads, the teacher 4; use Relations"):
        set_up(kind(), tiny("bert", heads=2), tiny("bert", heads=4))


@pytest.mark.parametrize(
    "student, teacher, lacks",
    [
        ("bert", "t5", "bert"),
        ("t5", "bert", "bert"),
        ("gpt2", "t5", "gpt2"),
        ("t5", "gpt2", "gpt2"),
    ],
)
def test_a_model_without_cross_attention_is_refused_before_the_first_step(student, teacher, lacks):
    with pytest.raises(ValueError, match=f"{lacks} has no '(cross|decoder)'"):
        set_up(AttentionKL(stack="cross"), tiny(student), tiny(teacher))


def test_sinks_are_an_entry_of_the_distributions_if_both_have_one() -> None:
    """Against sums in float64; padding does not count, and equal attentions are at 0."""
    torch.manual_seed(0)
    valid, mask = torch.tensor([[True] * 4, [True, True, False, False]]), torch.ones(4, 4).tril().bool()
    mask = mask & valid[:, None, None]

    def attention(has_sink: bool) -> Attention:
        query, key, value = (torch.randn(2, 3, 4, 8) for _ in range(3))
        sink = torch.randn(2, 3, 4, 1) if has_sink else None
        return Attention(query, key, value, mask, 0.3, None, False, None, sink)

    def distribution(attention: Attention, has_sink: bool) -> torch.Tensor:
        powers = scores(attention).masked_fill(~mask, -torch.inf).exp()
        powers = torch.cat([powers, attention.sink.double().exp()], -1) if has_sink else powers
        return powers / powers.sum(-1, keepdim=True)

    student, teacher, plain = attention(True), attention(True), attention(False)
    for other, has_sink in ((teacher, True), (plain, False)):
        q, p = (distribution(a, has_sink) for a in (student, other))
        expected = (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(-1).mean(1)[valid].sum()
        torch.testing.assert_close(AttentionKL().distance(student, other, valid).double(), expected)
    assert AttentionKL().distance(student, student, valid) == 0
    assert AttentionScores().distance(student, replace(student, sink=None), valid) == 0
    torch.testing.assert_close(student.probabilities().double(), distribution(student, True)[..., :4] * mask)
