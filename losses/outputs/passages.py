"""Losses on the scores of the passages of a query: their differences, or their order."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from losses.loss import LossValues, prediction_mask
from losses.outputs.divergences import kl
from losses.outputs.logits import LogitsLoss, check_temperature, logits_of
from prune_schedules.schedule import Constant, Schedule
from prune_schedules.timeline import Timeline
from students.recording.batch import Batch
from students.recording.signals import Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def margin_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over pairs i < j of ``((s_i - s_j) - (t_i - t_j))^2``, [Q], in float32; 0 of a single passage.

    That is twice the variance (with n - 1) of ``s - t`` over the passages.

    Args:
        student: scores [Q, P].
        teacher: scores [Q, P].
        mask: where a query has a passage, [Q, P].
    """
    difference = (student.float() - teacher.float()).masked_fill(~mask, 0.0)
    count = mask.sum(1, keepdim=True)
    centred = (difference - difference.sum(1, keepdim=True) / count.clamp(min=1)).masked_fill(~mask, 0.0)
    return 2 * centred.square().sum(1) / (count.squeeze(1) - 1).clamp(min=1)


def listwise_kl(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Return ``KL(softmax(t / T), softmax(s / T))`` over the passages of each query, [Q], in float32.

    Args:
        student: scores [Q, P].
        teacher: scores [Q, P].
        mask: where a query has a passage, [Q, P].
        temperature: T.
    """
    # A finite number: minus infinity would give 0 times infinity where no passage is.
    lowest = torch.finfo(torch.float32).min / 4
    log_q, log_p = ((s.float() / temperature).masked_fill(~mask, lowest).log_softmax(1) for s in (student, teacher))
    return kl(log_p, log_q)


class RankingLoss(LogitsLoss):
    """The base class of losses with a value for each query; one with a single passage does not count."""

    compares_passages: ClassVar[bool] = True

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the scores of both models.

        Raises:
            ValueError: if there is no teacher, or a model gives more than a score.
        """
        super().setup(student, teacher)
        if student.num_labels != 1:
            raise ValueError(f"a passage has one score, and the models have {student.num_labels} outputs")

    def count(self, batch: Batch) -> Tensor:
        """Return the number of queries with two passages or more."""
        return (prediction_mask(batch).sum(1) > 1).sum()

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the queries, and their number."""
        mask = prediction_mask(batch)
        counts = mask.sum(1) > 1
        scores = (logits_of(trace).squeeze(-1)[counts] for trace in (student, teacher))
        return self.query_distance(*scores, mask[counts], values).sum(), counts.sum()

    def distance(self, student: Tensor, teacher: Tensor, labels: Tensor | None, values: LossValues) -> Tensor:
        raise TypeError("a query is compared as a whole")

    @abstractmethod
    def query_distance(self, student: Tensor, teacher: Tensor, mask: Tensor, values: LossValues) -> Tensor:
        """Return the loss of each query, [Q], from scores [Q, P] and where it has passages, [Q, P]."""


@dataclass(kw_only=True, eq=False)
class MarginMSE(RankingLoss):
    """The squared error of the difference of two passages' scores, the mean over all pairs of a query's passages
    (Hofstätter et al. 2020, arXiv 2010.02666, of which a pair is a relevant and another passage).
    """

    def query_distance(self, student: Tensor, teacher: Tensor, mask: Tensor, values: LossValues) -> Tensor:
        return margin_mse(student, teacher, mask)


@dataclass(kw_only=True, eq=False)
class ListwiseKL(RankingLoss):
    """KL of the scores of a query's passages as a distribution over them (ListNet's, Cao et al. 2007, of the teacher's
    scores in place of labels).

    Args:
        temperature: T, a number or a schedule, by which the scores are divided; the loss is multiplied by T squared.
    """

    temperature: Schedule = Constant(1.0)

    def at(self, step: int, timeline: Timeline) -> LossValues:
        """Return the values of a step; raise ValueError if the temperature is not above 0."""
        return check_temperature(super().at(step, timeline), step)

    def query_distance(self, student: Tensor, teacher: Tensor, mask: Tensor, values: LossValues) -> Tensor:
        temperature = values["temperature"]
        return temperature**2 * listwise_kl(student, teacher, mask, temperature)
