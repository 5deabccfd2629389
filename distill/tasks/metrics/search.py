"""Metrics of search by vectors: where a query's relevant passages stand among all passages of the data."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from distill.tasks.metrics.retrieval import ranked

CHUNK = 256
"""The number of queries that are ranked at a time: their scores for all passages lie in memory."""


class SearchMetric(Metric):
    """The mean over queries of a number that the order of all passages gives, by the cosine of vectors.

    A passage that stands in several rows is searched once. What is relevant to a query is told by its rows; all other
    passages are not. The number of a query does not change with the rows that are drawn for an interval: the passages
    that are searched stay.

    Args:
        of_queries: gives the number of each query, [Q], from its ranked relevance [Q, P] and k.
        k: how many of the best passages count.
    """

    vectors: list[Tensor]
    pairs: list[Tensor]
    full_state_update = False
    higher_is_better = True

    def __init__(self, of_queries: Callable[[Tensor, int], Tensor], k: int = 10):
        super().__init__()
        self.of_queries, self.k = of_queries, k
        self.add_state("vectors", [], dist_reduce_fx="cat")
        self.add_state("pairs", [], dist_reduce_fx="cat")

    def update(self, vectors: Tensor, pairs: Tensor) -> None:
        """Add rows.

        Args:
            vectors: of query and passage, [B, 2, D].
            pairs: the numbers of query and passage, and the relevance of the passage, [B, 3].
        """
        self.vectors.append(vectors.float())
        self.pairs.append(pairs.double())

    def row_terms(self) -> tuple[Tensor, Tensor]:
        """Return the number of each row's query, and the weight of the row: one divided among the rows of a query.

        Both are [N], float64; the weight is 0 if no passage is relevant to the query.
        """
        vectors, pairs = (torch.cat(list(state)) if isinstance(state, list) else state for state in self._states())
        (queries, of_query), (passages, of_passage) = (_distinct(pairs[:, place]) for place in (0, 1))
        unit = F.normalize(vectors, dim=-1)
        values = torch.zeros(len(queries), dtype=torch.float64, device=pairs.device)
        has_relevant = torch.zeros(len(queries), dtype=torch.bool, device=pairs.device)
        for start in range(0, len(queries), CHUNK):
            chunk = slice(start, start + CHUNK)
            scores = unit[queries[chunk], 0] @ unit[passages, 1].T
            relevance = torch.zeros(scores.shape, dtype=torch.float64, device=pairs.device)
            rows = ((of_query >= start) & (of_query < start + CHUNK)).nonzero().squeeze(1)
            places = (of_query[rows] - start) * len(passages) + of_passage[rows]
            relevance.view(-1).scatter_reduce_(0, places, pairs[rows, 2], "amax")
            order = ranked(scores, relevance)
            has_relevant[chunk] = (order > 0).any(1)
            values[chunk] = self.of_queries(order, self.k).nan_to_num()
        weights = has_relevant / torch.bincount(of_query, minlength=len(queries)).double()
        return values[of_query], weights[of_query]

    def compute(self) -> Tensor:
        """Return the mean over the queries with a relevant passage; NaN if there is none."""
        values, weights = self.row_terms()
        return (values * weights).sum() / weights.sum()

    def _states(self) -> tuple[list[Tensor] | Tensor, list[Tensor] | Tensor]:
        return self.vectors, self.pairs


def _distinct(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return a row of each distinct number, [U], and for each row the place of its number among them, [N]."""
    values, places = numbers.unique(return_inverse=True)
    first = torch.full((len(values),), len(numbers), device=numbers.device)
    first.scatter_reduce_(0, places, torch.arange(len(numbers), device=numbers.device), "amin")
    return first, places
