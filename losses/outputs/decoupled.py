"""Decoupled knowledge distillation: separate terms for the target class and the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.loss import LossValues, check_factors
from losses.outputs.divergences import kl
from losses.outputs.logits import TemperatureLoss


def dkd(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0, alpha: float = 1.0, beta: float = 8.0
) -> Tensor:
    """Return ``alpha KL(b_T, b_S) + beta KL(o_T, o_S)``, times T squared, [N], from logits [N, C] and classes [N].

    b = (p_y, 1 - p_y) is the probability of the target class, o the distribution over the other classes.
    """
    target = F.one_hot(labels, student.shape[-1]).bool()
    binary, others = [], []
    for logits in (teacher, student):
        scaled = logits.float() / temperature
        rest = scaled.masked_fill(target, -torch.inf).logsumexp(-1)
        binary.append(F.log_softmax(torch.stack([scaled[target], rest], -1), dim=-1))
        others.append(F.log_softmax(scaled[~target].view(len(scaled), -1), dim=-1))
    return temperature**2 * (alpha * kl(*binary) + beta * kl(*others))


@dataclass(kw_only=True, eq=False)
class DKD(TemperatureLoss):
    """KL split into a target-class and a non-target-class term with separate weights (DKD, Zhao et al. 2022, arXiv
    2203.08679).

    With ``alpha: 1`` and ``beta`` equal to one minus the teacher's probability of the label it would be plain KL. With
    two classes the second term is 0.

    Args:
        alpha: weight of the target-class term.
        beta: weight of the non-target-class term.
    """

    needs_labels: ClassVar[bool] = True
    compares_classes: ClassVar[bool] = True

    alpha: float = 1.0
    beta: float = 8.0

    def __post_init__(self):
        super().__post_init__()
        check_factors(alpha=self.alpha, beta=self.beta)

    def distance(self, student: Tensor, teacher: Tensor, labels: Tensor | None, values: LossValues) -> Tensor:
        return dkd(student, teacher, labels, values["temperature"], self.alpha, self.beta)
