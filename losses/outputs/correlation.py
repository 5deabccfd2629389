"""Correlation of outputs: DIST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from losses.loss import LossValues, check_factors
from losses.outputs.logits import TemperatureLoss


def pearson_distance(left: Tensor, right: Tensor, dim: int = -1) -> Tensor:
    """Return ``1 - rho`` of Pearson's correlation along ``dim``, [...]; 1 if either is constant."""
    left, right = (z - z.mean(dim, keepdim=True) for z in (left.float(), right.float()))
    return 1 - F.cosine_similarity(left, right, dim=dim)


def dist(student: Tensor, teacher: Tensor, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> Tensor:
    """Return the DIST loss [N] of logits [N, C], times T squared.

    It is ``beta (1 - rho(p_T, p_S))`` over the classes of an example, plus ``gamma`` times the same over the examples
    of a class, averaged over classes. The second term is 0 for a single example.
    """
    q, p = ((logits.float() / temperature).softmax(-1) for logits in (student, teacher))
    within = pearson_distance(q, p, dim=0).mean() if len(q) > 1 else 0.0
    return temperature**2 * (beta * pearson_distance(q, p) + gamma * within)


@dataclass(kw_only=True, eq=False)
class DIST(TemperatureLoss):
    """Pearson correlation of the outputs, within each example and within each class (DIST, Huang et al. 2022, arXiv
    2205.10536): the student matches the teacher's ranking, not its confidence.

    A class is compared over the examples of one batch of one process, so with ``gamma`` above 0 the loss depends on how
    rows are batched.

    Args:
        beta: weight of the correlation within an example.
        gamma: weight of the correlation within a class.
    """

    uses_all_classes: ClassVar[bool] = True
    compares_classes: ClassVar[bool] = True

    beta: float = 1.0
    gamma: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_factors(beta=self.beta, gamma=self.gamma)

    def distance(self, student: Tensor, teacher: Tensor, labels: Tensor | None, values: LossValues) -> Tensor:
        return dist(student, teacher, values["temperature"], self.beta, self.gamma)
