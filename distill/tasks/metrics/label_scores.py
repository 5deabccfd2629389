"""Metrics of rows that may have several labels: F1 at a threshold, and mean average precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

THRESHOLDS = [number / 100 for number in range(1, 100)]


class F1AtThreshold(Metric):
    """F1 of decisions at one threshold for all labels: the one of several with the best micro F1.

    Args:
        labels: their number.
        average: ``micro`` over all decisions, or ``macro``: the mean over labels with a decision or label to count.
        thresholds: probabilities from which a label holds; a single one is used as it is.
    """

    higher_is_better = True

    def __init__(self, labels: int, average: Literal["micro", "macro"], thresholds: Sequence[float] = THRESHOLDS):
        super().__init__()
        self.average, self.thresholds = average, list(thresholds)
        self.add_state("actual", torch.zeros(labels, dtype=torch.long), dist_reduce_fx="sum")
        for count in ("correct", "predicted"):
            zeros = torch.zeros(len(self.thresholds), labels, dtype=torch.long)
            self.add_state(count, zeros, dist_reduce_fx="sum")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add rows: probabilities and labels of 0 and 1, [N, L] each."""
        thresholds = torch.tensor(self.thresholds, device=scores.device)
        predicted = scores >= thresholds[:, None, None]
        self.actual += labels.sum(0)
        self.correct += (predicted & labels.bool()).sum(1)
        self.predicted += predicted.sum(1)

    def compute(self) -> Tensor:
        """Return ``2 correct / (predicted + actual)`` at the best threshold."""
        index = self._best()
        # On the CPU, as not every accelerator has float64.
        correct, total = self.correct[index].cpu().double(), (self.predicted[index] + self.actual).cpu().double()
        if self.average == "micro":
            f1 = 2 * correct.sum() / total.sum().clamp(min=1)
        else:
            f1 = (2 * correct / total.clamp(min=1)).sum() / (total > 0).sum().clamp(min=1)
        return f1.to(self.correct.device, torch.float32)

    def best_threshold(self) -> float:
        """Return the threshold with the best micro F1; of several in a row, the middle one."""
        return self.thresholds[self._best()]

    def _best(self) -> int:
        totals = (self.predicted.sum(-1) + self.actual.sum()).cpu().double()
        micro = 2 * self.correct.sum(-1).cpu().double() / totals.clamp(min=1)
        best = (micro == micro.max()).nonzero().flatten()
        return int(best[len(best) // 2])


class MeanAveragePrecision(Metric):
    """The mean of the average precision of each label that some row has, as scikit-learn computes it."""

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add rows: probabilities and labels of 0 and 1, [N, L] each."""
        self.scores.append(scores)
        self.labels.append(labels)

    def compute(self) -> Tensor:
        return average_precision(dim_zero_cat(self.scores), dim_zero_cat(self.labels)).nanmean()


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Return ``sum_n (R_n - R_{n-1}) P_n`` over the ranks n of each label, [L] from [N, L]; NaN for one without rows.

    R and P are recall and precision of the rows up to a rank. All labels are ranked at once, unlike in torchmetrics, as
    intervals need it a thousand times.
    """
    ranked, order = scores.sort(0, descending=True)
    hits = labels.gather(0, order)
    rank = torch.arange(len(scores), device=scores.device)[:, None].expand_as(order)
    # Rows of equal score have the rank of the last of them.
    is_last = torch.cat([ranked[1:] != ranked[:-1], torch.ones_like(ranked[:1], dtype=torch.bool)])
    last = rank.where(is_last, len(scores)).flip(0).cummin(0).values.flip(0)
    found = hits.cumsum(0)
    precision = found.gather(0, last) / (last + 1)
    return (precision * hits).sum(0) / found[-1]
