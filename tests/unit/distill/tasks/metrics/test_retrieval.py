"""Metrics of rankings: those of scikit-learn and of their definitions, and equal scores in the worst order."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from torchmetrics.functional.retrieval import retrieval_reciprocal_rank

from distill.tasks.metrics.retrieval import MRR, NDCG, ranked, recall, reciprocal_rank

ABSENT = -torch.inf


def drawn(graded: bool = False, queries: int = 40, passages: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(queries, passages, generator=generator)
    relevance = torch.randint(0, 4 if graded else 2, (queries, passages), generator=generator).float()
    relevance *= torch.rand(queries, passages, generator=generator) < 0.3
    relevance[:, 0] = relevance[:, 0].clamp(min=1)
    return scores, relevance


@pytest.mark.parametrize("k", [1, 3, 10, 20])
def test_ndcg_is_that_of_scikit_learn(k):
    scores, relevance = drawn(graded=True)
    metric = NDCG(k)
    metric.update(scores, relevance)
    assert float(metric.compute()) == pytest.approx(ndcg_score(relevance.numpy(), scores.numpy(), k=k))


@pytest.mark.parametrize("k", [1, 3, 10])
def test_reciprocal_rank_and_recall_are_those_of_their_definition(k):
    scores, relevance = drawn()
    ours = [function(ranked(scores, relevance), k) for function in (reciprocal_rank, recall)]
    for number, (row, labels) in enumerate(zip(scores, relevance.long(), strict=True)):
        relevant = {place for place, label in enumerate(labels.tolist()) if label}
        best = sorted(range(len(row)), key=lambda place: -float(row[place]))[:k]
        first = next((rank for rank, place in enumerate(best, 1) if place in relevant), None)
        assert float(ours[0][number]) == pytest.approx(1 / first if first else 0.0)
        assert float(ours[1][number]) == pytest.approx(len(relevant & set(best)) / len(relevant))
        # Scores above 0: with another one the library does not count a passage.
        expected = retrieval_reciprocal_rank(row.exp(), labels, top_k=k)
        assert float(ours[0][number]) == pytest.approx(float(expected))


def test_queries_may_have_fewer_passages_and_be_added_in_any_parts():
    scores, relevance = drawn()
    alone, together = NDCG(), NDCG()
    for number in range(len(scores)):
        count = 4 + number % 7
        alone.update(scores[number : number + 1, :count], relevance[number : number + 1, :count])
        scores[number, count:], relevance[number, count:] = 99.0, ABSENT
    together.update(scores, relevance)
    assert alone.compute() == pytest.approx(together.compute())
    for part in (slice(0, 13), slice(13, 40)):
        alone.update(scores[part], relevance[part])
    assert alone.compute() == pytest.approx(together.compute())


def test_equal_scores_are_in_the_worst_order():
    relevance = torch.tensor([[1.0, 0.0, 0.0, 2.0]])
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        assert ranked(torch.zeros(1, 4), relevance[:, order]).tolist() == [[0, 0, 1, 2]]
    metric = MRR()
    metric.update(torch.zeros(1, 4), relevance)
    assert float(metric.compute()) == pytest.approx(1 / 3)


def test_a_score_of_nan_is_the_lowest():
    scores = torch.tensor([[torch.nan, 1.0, 0.0, 0.0]])
    assert ranked(scores, torch.tensor([[1.0, 0.0, 0.0, ABSENT]])).tolist() == [[0, 0, 1, 0]]


def test_a_query_without_a_relevant_passage_does_not_count():
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    relevance = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    metric = MRR()
    assert np.isnan(float(MRR().compute()))
    metric.update(scores, relevance)
    assert float(metric.compute()) == 0.5 and int(metric.count) == 1


def test_a_relevant_passage_below_the_best_k_is_worth_nothing():
    metric = MRR(k=2)
    metric.update(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
    assert float(metric.compute()) == 0.0


@pytest.mark.parametrize("relevance", [[1, 0, 0, 0], [2, 0, 1, 1, 0], [0, 3], [1, 1, 1]])
@pytest.mark.parametrize("k", [1, 2, 10])
def test_the_baseline_is_the_mean_of_all_orders(relevance, k):
    orders = torch.tensor([*itertools.permutations(relevance)], dtype=torch.float32)
    scores = torch.arange(float(len(relevance)), 0, -1).expand(orders.shape)
    padded = torch.tensor([[*relevance, ABSENT], [0.0] * (len(relevance) + 1)])  # the second does not count
    for metric in (MRR(k), NDCG(k)):
        metric.update(scores, orders)
        assert metric.of_any_order([padded]) == pytest.approx(float(metric.compute()))
        assert np.isnan(metric.of_any_order([padded[1:]]))
