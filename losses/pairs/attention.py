"""Losses on attention scores and distributions."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from losses.loss import LossValues
from losses.pairing import LayerLoss, Layers
from students.families.families import num_heads
from students.recording.batch import Batch
from students.recording.signals import Attention, Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def score_mse(student: Tensor, teacher: Tensor, visible: Tensor) -> Tensor:
    """Return the squared error of scores [B, A, S, S] over visible keys, averaged over heads and keys, [B, S].

    It is masked before the square, so that masked scores, which may be infinite, do not count.
    """
    error = torch.where(visible, student.float() - teacher.float(), 0.0).square().mean(1)
    return error.sum(-1) / visible[:, 0].sum(-1).clamp(min=1)


def attention_kl(student: Tensor, teacher: Tensor, visible: Tensor) -> Tensor:
    """Return ``KL(teacher, student)`` of attention from scores [B, A, S, S] over visible keys, head average [B, S]."""
    log_q, log_p = (torch.log_softmax(z.float().masked_fill(~visible, -1e30), -1) for z in (student, teacher))
    return torch.where(visible, log_p.exp() * (log_p - log_q), 0.0).sum(-1).mean(1)


def visible_pairs(attention: Attention, valid: Tensor) -> Tensor:
    """Return the pairs that are compared, boolean [B, 1, S, S]: of queries that are tokens, with visible keys."""
    return attention.visible() & valid[:, None, :, None]


class AttentionLoss(LayerLoss):
    """The base class of losses with one value per query that is not padding."""

    signal = "attention"

    def count(self, batch: Batch) -> Tensor:
        """Return the number of queries that are not padding."""
        return self.valid(batch).sum()

    @abstractmethod
    def distance(self, student: Attention, teacher: Attention, valid: Tensor) -> Tensor:
        """Return the loss of a pair of layers, a scalar: the sum over the queries that are tokens, ``valid`` [B, S]."""

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the queries and the layer pairs, and the number of queries."""
        valid, (student_stack, teacher_stack) = self.valid(batch), self.stacks
        return self.pairing.at(values.epoch).total(
            lambda s, t: self.distance(student.attention[student_stack, s], teacher.attention[teacher_stack, t], valid)
        ), valid.sum()


@dataclass(kw_only=True, eq=False)
class _OnScores(AttentionLoss):
    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the attention of the paired blocks.

        Raises:
            ValueError: if the two models have different numbers of heads.
        """
        super().setup(student, teacher)
        heads = num_heads(student), num_heads(teacher)
        if heads[0] != heads[1]:
            raise ValueError(
                f"the student has {heads[0]} heads, the teacher {heads[1]}; "
                "use Relations, which does not need equal heads"
            )

    @staticmethod
    @abstractmethod
    def score_distance(student: Tensor, teacher: Tensor, visible: Tensor) -> Tensor:
        """Return the distance of the scores [B, A, S, S] for each query, [B, S]."""

    def distance(self, student: Attention, teacher: Attention, valid: Tensor) -> Tensor:
        return self.score_distance(student.scores(), teacher.scores(), visible_pairs(student, valid)).sum()


@dataclass(kw_only=True, eq=False)
class AttentionScores(_OnScores):
    """Squared error of the attention scores before the softmax (TinyBERT, Jiao et al. 2019, arXiv 1909.10351)."""

    score_distance = staticmethod(score_mse)


@dataclass(kw_only=True, eq=False)
class AttentionKL(_OnScores):
    """KL of the attention distributions, teacher to student (MiniLM's first term, Wang et al. 2020, arXiv
    2002.10957).

    A sink of attention (GPT-OSS) is one more entry of the distributions if both models have one; if one has none, the
    distributions are those over keys.
    """

    layers: Layers = "top"
    score_distance = staticmethod(attention_kl)

    def distance(self, student: Attention, teacher: Attention, valid: Tensor) -> Tensor:
        """Return the sum over the queries that are tokens."""
        if student.sink is None or teacher.sink is None:
            return super().distance(student, teacher, valid)
        visible = visible_pairs(student, valid)
        scores = (torch.cat([model.scores(), model.sink.float()], -1) for model in (student, teacher))
        return attention_kl(*scores, torch.cat([visible, valid[:, None, :, None]], -1)).sum()
