"""Search by vectors: the order of all passages, by scikit-learn and by hand; the same in any batches and processes."""

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from distill.tasks.metrics.retrieval import ndcg, recall, reciprocal_rank
from distill.tasks.metrics.search import SearchMetric


def drawn(queries: int = 30, passages: int = 25, rows: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of vectors and of numbers: the same query or passage has the same vector."""
    generator = torch.Generator().manual_seed(0)
    of_queries, of_passages = (torch.randn(count, 8, generator=generator) for count in (queries, passages))
    numbers = torch.stack([torch.randint(0, n, (rows,), generator=generator) for n in (queries, passages)], 1)
    numbers = numbers.unique(dim=0)
    relevance = torch.randint(0, 3, (len(numbers), 1), generator=generator)
    return torch.stack([of_queries[numbers[:, 0]], of_passages[numbers[:, 1]]], 1), torch.cat([numbers, relevance], 1)


def test_ndcg_is_that_of_scikit_learn_over_all_passages():
    vectors, pairs = drawn()
    metric = SearchMetric(ndcg)
    metric.update(vectors, pairs)
    passages = {int(number): vectors[row, 1].double().numpy() for row, number in enumerate(pairs[:, 1])}
    expected = []
    for query in pairs[:, 0].unique().tolist():
        rows = [row for row, number in enumerate(pairs[:, 0]) if number == query]
        labels = dict.fromkeys(passages, 0) | {int(pairs[row, 1]): int(pairs[row, 2]) for row in rows}
        vector = vectors[rows[0], 0].double().numpy()
        scores = [vector @ passage / np.linalg.norm(passage) for passage in passages.values()]
        if any(labels.values()):
            expected.append(ndcg_score([list(labels.values())], [scores], k=10))
    assert float(metric.compute()) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("function", [ndcg, recall, reciprocal_rank])
def test_batches_and_their_order_change_nothing(function):
    vectors, pairs = drawn()
    whole, parts = SearchMetric(function), SearchMetric(function)
    whole.update(vectors, pairs)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(1))
    for rows in order.split(7):
        parts.update(vectors[rows], pairs[rows])
    assert float(parts.compute()) == pytest.approx(float(whole.compute()))


def test_of_a_perfect_encoder_everything_is_found():
    eye = torch.eye(12)
    pairs = torch.stack([torch.arange(12), torch.arange(12), torch.ones(12, dtype=torch.long)], 1)
    for function in (ndcg, recall, reciprocal_rank):
        metric = SearchMetric(function)
        metric.update(torch.stack([eye, eye], 1), pairs)
        assert float(metric.compute()) == 1
        metric.reset()
        metric.update(torch.stack([eye, eye.roll(1, 0)], 1), pairs)  # equal scores, 0, and one that is not the relevant
        assert float(metric.compute()) == 0


def test_a_query_without_a_relevant_passage_does_not_count_and_rows_share_a_query():
    vectors = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    vectors[1, 0] = vectors[0, 0]
    metric = SearchMetric(recall)
    metric.update(vectors, torch.tensor([[0, 0, 1], [0, 1, 1], [1, 2, 0]]))
    values, weights = metric.row_terms()
    assert weights.tolist() == [0.5, 0.5, 0.0] and values[:2].tolist() == [1.0, 1.0]
