"""Squared error of the outputs of student and teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from losses.loss import LossValues
from losses.outputs.logits import LogitsLoss


def logits_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ``1/2 |z_S - z_T|^2`` [...] of logits [..., C], in float32."""
    return 0.5 * (student.float() - teacher.float()).square().sum(-1)


@dataclass(kw_only=True, eq=False)
class LogitsMSE(LogitsLoss):
    """Half the squared distance of the logits (Ba and Caruana 2014, arXiv 1312.6184).

    Args:
        noise_std: the standard deviation of x in (1 + x) z_T, drawn for every logit: a noisy teacher (Sau and
            Balasubramanian 2016, arXiv 1610.09650).
        noise_probability: with which a prediction of the teacher is noisy.
    """

    noise_std: float = 0.0
    noise_probability: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.noise_std < math.inf:
            raise ValueError(f"noise_std: must be a number of at least 0, not {self.noise_std}")
        if not 0 <= self.noise_probability <= 1:
            raise ValueError(f"noise_probability: must lie in [0, 1], not {self.noise_probability}")
        if self.noise_std and not self.noise_probability:
            raise ValueError(f"noise_probability: at 0 no prediction is noisy, and noise_std is {self.noise_std}")

    @property
    def is_infinite_at_zero(self) -> bool:
        """Whether it is infinite where the teacher's probability of a class is 0: always."""
        return True

    @property
    def uses_all_classes(self) -> bool:
        """Whether all classes are noisy."""
        return self.noise_std > 0

    def distance(self, student: Tensor, teacher: Tensor, labels: Tensor | None, values: LossValues) -> Tensor:
        if self.noise_std:
            is_noisy = torch.rand_like(teacher[..., :1]) < self.noise_probability
            teacher = teacher * (1 + self.noise_std * is_noisy * torch.randn_like(teacher))
        return logits_mse(student, teacher)
