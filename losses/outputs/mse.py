"""The student's outputs against the teacher's, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from losses.loss import LossValues
from losses.outputs.logits import LogitsLoss


def logits_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """``1/2 |z_S - z_T|^2`` [...] of logits [..., C], in float32."""
    return 0.5 * (student.float() - teacher.float()).square().sum(-1)


@dataclass(kw_only=True, eq=False)
class LogitsMSE(LogitsLoss):
    """Half the squared distance of the logits (Ba and Caruana 2014, arXiv 1312.6184).

    Args:
        noise: the standard deviation of x in (1 + x) z_T, drawn anew for every logit: a noisy teacher (Sau and
            Balasubramanian 2016, arXiv 1610.09650).
        noisy: the share of the predictions for which the teacher is noisy.
    """

    noise: float = 0.0
    noisy: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise: must be a number of at least 0, not {self.noise}")
        if not 0 <= self.noisy <= 1:
            raise ValueError(f"noisy: is a share, from 0 to 1, not {self.noisy}")
        if self.noise and not self.noisy:
            raise ValueError(f"noisy: at 0 the teacher is noisy for no prediction, and noise is {self.noise}")

    @property
    def uses_all_classes(self) -> bool:
        """Whether the teacher is noisy, of all classes."""
        return self.noise > 0

    def distance(self, student: Tensor, teacher: Tensor, labels: Tensor | None, values: LossValues) -> Tensor:
        if self.noise:
            chosen = torch.rand_like(teacher[..., :1]) < self.noisy
            teacher = teacher * (1 + self.noise * chosen * torch.randn_like(teacher))
        return logits_mse(student, teacher)
