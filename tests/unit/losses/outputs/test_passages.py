"""Losses on the passages of a query: float64 arithmetic of their own, zeros, invariances, gradients, padding."""

import itertools

import numpy as np
import pytest
import torch
from transformers import BertConfig

from losses.loss import LossValues
from losses.outputs.passages import ListwiseKL, MarginMSE, RankingLoss, listwise_kl, margin_mse
from prune_schedules.schedule import Constant, Linear, Timeline
from students.recording.signals import Trace

COUNTS = [5, 3, 1, 2]
MASK = torch.arange(5)[None] < torch.tensor(COUNTS)[:, None]
ONE = BertConfig(num_labels=1)


def drawn(seed: int = 0) -> torch.Tensor:
    """Scores of four queries; where there is no passage they are anything."""
    return 2 * torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))


def value(loss: RankingLoss, student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    labels = torch.zeros(4, 5).masked_fill(~MASK, -torch.inf)
    batch = {"input_ids": torch.ones(int(MASK.sum()), 3, dtype=torch.long), "labels": labels}
    values = LossValues(0, {"weight": 1.0, "temperature": temperature})
    total, count = loss(*(Trace(scores[..., None], {}, {}, {}) for scores in (student, teacher)), batch, values)
    assert count == loss.count(batch) == 3  # a query with one passage does not count
    return total


def test_margin_mse_is_that_of_all_pairs():
    student, teacher = drawn(), drawn(1)
    s, t = student.double().numpy(), teacher.double().numpy()
    expected = []
    for row, count in enumerate(COUNTS):
        pairs = list(itertools.combinations(range(count), 2))
        errors = [((s[row, i] - s[row, j]) - (t[row, i] - t[row, j])) ** 2 for i, j in pairs]
        expected.append(np.mean(errors) if pairs else 0.0)
    np.testing.assert_allclose(margin_mse(student, teacher, MASK).numpy(), expected, rtol=1e-5)
    assert float(value(MarginMSE(), student, teacher)) == pytest.approx(sum(expected), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_listwise_kl_is_that_of_float64(temperature):
    student, teacher = drawn(), drawn(1)
    expected = []
    for row, count in enumerate(COUNTS):
        p, q = (np.exp(scores.double().numpy()[row, :count] / temperature) for scores in (teacher, student))
        p, q = p / p.sum(), q / q.sum()
        expected.append((p * np.log(p / q)).sum())
    np.testing.assert_allclose(listwise_kl(student, teacher, MASK, temperature).numpy(), expected, rtol=1e-4, atol=1e-6)
    loss = ListwiseKL(temperature=Constant(temperature))
    assert float(value(loss, student, teacher, temperature)) == pytest.approx(temperature**2 * sum(expected), rel=1e-4)


@pytest.mark.parametrize("loss", [MarginMSE(), ListwiseKL()])
def test_only_differences_of_scores_count(loss):
    student, teacher = drawn(), drawn(1)
    shift = torch.tensor([[3.0], [-2.0], [1.0], [0.5]])
    torch.testing.assert_close(
        value(loss, student + shift, teacher), value(loss, student, teacher), rtol=1e-4, atol=1e-5
    )
    assert float(value(loss, teacher + shift, teacher)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("loss", [MarginMSE(), ListwiseKL()])
def test_what_stands_where_no_passage_is_does_not_count(loss):
    student, teacher = drawn(), drawn(1)
    expected = value(loss, student, teacher)
    changed = (scores.masked_fill(~MASK, 1e4) for scores in (student, teacher))
    torch.testing.assert_close(value(loss, *changed), expected)


@pytest.mark.parametrize("loss", [MarginMSE(), ListwiseKL()])
def test_gradients_are_finite_and_those_of_differences(loss):
    student, teacher = drawn().requires_grad_(), drawn(1)
    (gradient,) = torch.autograd.grad(value(loss, student, teacher), student)
    assert gradient.isfinite().all() and not gradient[~MASK].any() and not gradient[2].any()
    step = torch.zeros(4, 5)
    step[1, 2] = 1e-2
    with torch.no_grad():
        slope = (value(loss, student + step, teacher) - value(loss, student - step, teacher)) / 2e-2
    assert float(gradient[1, 2]) == pytest.approx(float(slope), rel=1e-2)


@pytest.mark.parametrize("loss", [MarginMSE(), ListwiseKL()])
def test_a_batch_of_queries_with_one_passage_has_a_loss_of_zero_with_a_gradient(loss):
    """Losses of ordered pairs were NaN there (sentence-transformers 4032)."""
    student = torch.randn(3, 1, 1, requires_grad=True)
    batch = {"input_ids": torch.ones(3, 3, dtype=torch.long), "labels": torch.zeros(3, 1)}
    values = LossValues(0, {"weight": 1.0, "temperature": 1.0})
    total, count = loss(*(Trace(scores, {}, {}, {}) for scores in (student, torch.randn(3, 1, 1))), batch, values)
    assert float(total) == int(count) == int(loss.count(batch)) == 0
    total.backward()
    assert not student.grad.any()


def test_models_with_several_outputs_or_none_to_learn_from_are_refused():
    MarginMSE().setup(ONE, ONE)
    with pytest.raises(ValueError, match="a passage has one score, and the models have 2 outputs"):
        MarginMSE().setup(BertConfig(num_labels=2), BertConfig(num_labels=2))
    with pytest.raises(ValueError, match="the run has none"):
        ListwiseKL().setup(ONE, None)
    with pytest.raises(ValueError, match="temperature: must be above 0, and is 0"):
        ListwiseKL(temperature=Linear(to=2.0)).at(0, Timeline(10, 10))
