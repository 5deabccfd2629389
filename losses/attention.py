"""The student's attention against the teacher's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig

from losses.loss import Loss, valid_tokens
from students.families import depth, find_stack
from students.layers import Rule, pairs
from students.signals import Attention, Signals, Trace, check


def score_mse(student: Tensor, teacher: Tensor, visible: Tensor) -> Tensor:
    """Squared error of scores [B, A, S, S] over the visible keys, mean over heads, mean over the keys of each query:
    [B, S].

    Masked before the square, so that what no query sees counts nothing.
    """
    error = torch.where(visible, student.float() - teacher.float(), 0.0).square().mean(1)
    return error.sum(-1) / visible[:, 0].sum(-1).clamp(min=1)


def attention_kl(student: Tensor, teacher: Tensor, visible: Tensor) -> Tensor:
    """``KL(teacher, student)`` of attention, from scores [B, A, S, S], over visible keys, mean over heads: [B, S]."""
    log_q, log_p = (torch.log_softmax(z.float().masked_fill(~visible, -1e30), -1) for z in (student, teacher))
    return torch.where(visible, log_p.exp() * (log_p - log_q), 0.0).sum(-1).mean(1)


def compared(attention: Attention, valid: Tensor) -> Tensor:
    """Which scores are compared, [B, 1, S, S]: of queries that are tokens, with the keys they may look at."""
    return attention.visible() & valid[:, None, :, None]


@dataclass(kw_only=True, eq=False)
class OnAttention(Loss):
    """What the losses on attention share: which layers are compared; each pair is a term of the sum.

    Args:
        layers: which block teaches which: a rule, or {student block: teacher block}.
        stack: ``encoder``, ``decoder`` or ``cross`` of an encoder-decoder; the self attention of the first stack if
            not given.
    """

    layers: Rule | dict[int, int] = "uniform"
    stack: str | None = None

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Asks for the attention of the mapped blocks.

        Raises:
            ValueError: if there is no teacher, or a block lies outside its model.
        """
        if teacher is None:
            raise ValueError("the loss compares with a teacher, and the run has none")
        where = "decoder" if self.stack == "cross" else self.stack
        found = pairs(self.layers, depth(student, where), depth(teacher, where), blocks_only=True)
        names = [self.stack if self.stack == "cross" else find_stack(config, where)[0] for config in (student, teacher)]
        self.sites = [((names[0], s), (names[1], t)) for s, t in found]
        self.student_needs = Signals(attention=frozenset(s for s, _ in self.sites))
        self.teacher_needs = Signals(attention=frozenset(t for _, t in self.sites))
        check(student, self.student_needs)
        check(teacher, self.teacher_needs)

    def count(self, batch: dict[str, Tensor]) -> Tensor:
        """The number of queries that are not padding."""
        return valid_tokens(batch).sum()


@dataclass(kw_only=True, eq=False)
class _OnScores(OnAttention):
    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Asks for the attention of the mapped blocks.

        Raises:
            ValueError: if the two models have different numbers of heads.
        """
        super().setup(student, teacher)
        if student.num_attention_heads != teacher.num_attention_heads:
            raise ValueError(
                f"the student has {student.num_attention_heads} heads, the teacher {teacher.num_attention_heads}; "
                "use Relations, which does not need equal heads"
            )

    def forward(self, student: Trace, teacher: Trace | None, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Sum over the queries and the layer pairs, number of queries."""
        valid, terms = valid_tokens(batch), []
        for s, t in self.sites:
            mine, other = student.attention[s], teacher.attention[t]
            terms.append(self.distance(mine.scores(), other.scores(), compared(mine, valid)).sum())
        return torch.stack(terms).sum(), valid.sum()


@dataclass(kw_only=True, eq=False)
class AttentionScores(_OnScores):
    """Squared error of the attention scores before the softmax (TinyBERT, Jiao et al. 2019, arXiv 1909.10351)."""

    distance = staticmethod(score_mse)


@dataclass(kw_only=True, eq=False)
class AttentionKL(_OnScores):
    """KL of the attention distributions, teacher to student (MiniLM's first term, Wang et al. 2020, arXiv
    2002.10957).
    """

    layers: Rule | dict[int, int] = "top"
    distance = staticmethod(attention_kl)
