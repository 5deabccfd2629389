"""Metrics of rankings: where the relevant passages of a query stand among all of its passages.

Passages of equal score are taken in the worst order, so a model that scores all alike gains nothing by the order of the
data. A query without a relevant passage does not count. (Those of torchmetrics leave out passages whose score is not
above 0, as a probability of 0, and scores are any numbers.)
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric


def ranked(scores: Tensor, relevance: Tensor) -> Tensor:
    """Return the relevance of each query's passages from the best score down, [Q, P]; of equal scores the least first.

    Args:
        scores: of the passages, [Q, P].
        relevance: of the same, at least 0, [Q, P]; minus infinity where a query has fewer passages.
    """
    lowest = torch.finfo(torch.float64).min  # of NaN, which would sort first; above what is no passage
    scores = scores.double().nan_to_num(nan=lowest, neginf=lowest).masked_fill(relevance.isneginf(), -torch.inf)
    by_relevance = relevance.argsort(dim=1)
    order = by_relevance.gather(1, scores.gather(1, by_relevance).argsort(dim=1, descending=True, stable=True))
    return relevance.gather(1, order).clamp(min=0).double()


def reciprocal_rank(relevance: Tensor, k: int) -> Tensor:
    """Return 1 / rank of the first relevant passage among the best k, 0 if there is none, [Q] from ranked [Q, P]."""
    is_relevant = relevance[:, :k] > 0
    rank = is_relevant.int().argmax(1) + 1
    return is_relevant.any(1) / rank.double()


def ndcg(relevance: Tensor, k: int) -> Tensor:
    """Return the discounted cumulative gain of the best k over the largest possible, [Q] from ranked [Q, P].

    The gain is the relevance, over ``log2(rank + 1)`` (Järvelin and Kekäläinen 2002). NaN without a relevant passage.
    """
    discounts = 1 / torch.arange(2, relevance.shape[1] + 2, dtype=torch.float64, device=relevance.device).log2()
    ideal = relevance.sort(dim=1, descending=True).values
    gain, best = ((values * discounts)[:, :k].sum(1) for values in (relevance, ideal))
    return gain / best


def recall(relevance: Tensor, k: int) -> Tensor:
    """Return the share of the relevant passages that are among the best k, [Q] from ranked [Q, P]; NaN without one."""
    is_relevant = (relevance > 0).double()
    return is_relevant[:, :k].sum(1) / is_relevant.sum(1)


def reciprocal_rank_of_any_order(relevance: Tensor, k: int) -> float:
    """Return the mean of ``reciprocal_rank`` over all orders of one query's passages, whose relevance is [P]."""
    count, relevant = len(relevance), int((relevance > 0).sum())
    first = (math.comb(count - rank, relevant - 1) / rank for rank in range(1, min(k, count - relevant + 1) + 1))
    return sum(first) / math.comb(count, relevant)


def ndcg_of_any_order(relevance: Tensor, k: int) -> float:
    """Return the mean of ``ndcg`` over all orders of one query's passages, whose relevance is [P]."""
    means = relevance.double().mean().expand(1, len(relevance))
    best = relevance.double().sort(descending=True).values
    discounts = 1 / torch.arange(2, min(k, len(relevance)) + 2, dtype=torch.float64).log2()
    return float((means[0, :k].cpu() * discounts).sum() / (best[:k].cpu() * discounts).sum())


class RankingMetric(Metric):
    """The mean over queries of a number that the order of their passages gives.

    Args:
        k: how many of the best passages count.
    """

    total: Tensor
    count: Tensor
    full_state_update = False
    higher_is_better = True

    def __init__(self, k: int = 10):
        super().__init__()
        self.k = k
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    @abstractmethod
    def of_queries(self, relevance: Tensor) -> Tensor:
        """Return the number of each query, [Q], from its ranked relevance [Q, P]."""

    @abstractmethod
    def of_order(self, relevance: Tensor) -> float:
        """Return the mean of the number over all orders of a query's passages, whose relevance is [P]."""

    def of_any_order(self, relevance: list[Tensor]) -> float:
        """Return the mean over all orders of the passages: what scores at random give.

        Args:
            relevance: of the queries of each batch, as ``update`` takes it.
        """
        queries = [query[~query.isneginf()] for batch in relevance for query in batch]
        values = [self.of_order(query) for query in queries if (query > 0).any()]
        return sum(values) / len(values) if values else math.nan

    def update(self, scores: Tensor, relevance: Tensor) -> None:
        """Add queries: the scores and the relevance of their passages, as ``ranked`` takes them."""
        order = ranked(scores, relevance)
        counts = (order > 0).any(1)
        self.total += self.of_queries(order[counts]).sum()
        self.count += counts.sum()

    def compute(self) -> Tensor:
        """Return the mean over the queries with a relevant passage; NaN if there is none."""
        return self.total / self.count


class MRR(RankingMetric):
    """The mean reciprocal rank of the first relevant passage, 0 if it is not among the best k."""

    def of_queries(self, relevance: Tensor) -> Tensor:
        return reciprocal_rank(relevance, self.k)

    def of_order(self, relevance: Tensor) -> float:
        return reciprocal_rank_of_any_order(relevance, self.k)


class NDCG(RankingMetric):
    """The mean normalized discounted cumulative gain of the best k."""

    def of_queries(self, relevance: Tensor) -> Tensor:
        return ndcg(relevance, self.k)

    def of_order(self, relevance: Tensor) -> float:
        return ndcg_of_any_order(relevance, self.k)
