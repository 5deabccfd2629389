"""The student's logits against the teacher's."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig

from losses.loss import PerExample
from prune_schedules.schedule import Constant, Schedule, Timeline
from students.trace import Signals, Trace


def forward_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``t^2 KL(softmax(z_T / t), softmax(z_S / t))`` [...] of logits [..., C], in float32; 0 at equality."""
    log_q = F.log_softmax(student.float() / temperature, dim=-1)
    log_p = F.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def logits_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """``1/2 |z_S - z_T|^2`` [...] of logits [..., C], in float32."""
    return 0.5 * (student.float() - teacher.float()).square().sum(-1)


class _OnLogits(PerExample):
    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Asks both models for their logits.

        Raises:
            ValueError: if there is no teacher, or it has another number of outputs.
        """
        if teacher is None:
            raise ValueError("the loss compares with a teacher, and the run has none")
        if student.num_labels != teacher.num_labels:
            raise ValueError(f"the student has {student.num_labels} outputs, the teacher {teacher.num_labels}")
        self.student_needs = self.teacher_needs = Signals(logits=True)


@dataclass(kw_only=True, eq=False)
class Logits(_OnLogits):
    """Forward KL of the softened outputs, times T squared (Hinton, Vinyals, Dean 2015, arXiv 1503.02531).

    A single output (regression) has no distribution to soften: use ``LogitsMSE`` there.

    Args:
        temperature: T, a number or a schedule.
    """

    temperature: Schedule = Constant(1.0)

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Asks both models for their logits.

        Raises:
            ValueError: if there is no teacher, or the outputs are not a distribution over the same classes.
        """
        super().setup(student, teacher)
        if student.num_labels == 1:
            raise ValueError("a single output has no distribution; use LogitsMSE for regression")

    def at(self, step: int, timeline: Timeline) -> None:
        """Sets ``now``.

        Raises:
            ValueError: if the temperature is not above 0, as where a ramp starts from the default of 0.
        """
        super().at(step, timeline)
        if self.now["temperature"] <= 0:
            raise ValueError(f"temperature: must be above 0, and is {self.now['temperature']} at step {step}")

    def forward(self, student: Trace, teacher: Trace | None, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Sum over examples, number of examples."""
        return forward_kl(student.logits, teacher.logits, self.now["temperature"]).sum(), self.count(batch)


@dataclass(kw_only=True, eq=False)
class LogitsMSE(_OnLogits):
    """Half the squared distance of the logits (Ba and Caruana 2014, arXiv 1312.6184)."""

    def forward(self, student: Trace, teacher: Trace | None, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Sum over examples, number of examples."""
        return logits_mse(student.logits, teacher.logits).sum(), self.count(batch)
