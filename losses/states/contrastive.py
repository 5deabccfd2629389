"""A contrastive loss between the texts of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.loss import LossValues, PerExample, matmul_float32
from losses.pairing import Layers
from losses.states.hidden import ProjectedLoss, check_pooling, pool
from students.recording.batch import Batch
from students.recording.signals import Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def info_nce(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """Return ``-log softmax_j(cos(s_i, t_j) / T)`` at j = i, [B], from states [B, H], in float32; log B by chance."""
    scores = matmul_float32(F.normalize(student.float(), dim=-1), F.normalize(teacher.float(), dim=-1).T) / temperature
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device), reduction="none")


@dataclass(kw_only=True, eq=False)
class Contrastive(PerExample, ProjectedLoss):
    """InfoNCE between the states of student and teacher: the teacher's state of the same text is the positive, those of
    the other texts in the batch of one process are the negatives (van den Oord et al. 2018, arXiv 1807.03748; for
    distillation, Tian et al. 2019, arXiv 1910.10699).

    It depends on how rows are batched; larger batches have more negatives.

    Args:
        temperature: by which the cosines are divided.
        pooling: ``first`` token, or ``mean`` of the tokens.
    """

    compares_examples: ClassVar[bool] = True

    layers: Layers = "top"
    temperature: float = 0.1
    pooling: Literal["first", "mean"] = "mean"

    @property
    def compares_tokens(self) -> bool:
        return False

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: must be a number above 0, not {self.temperature}")

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the layers that are compared.

        Raises:
            ValueError: if ``pooling`` is the first token of a decoder, which attends to no other.
        """
        super().setup(student, teacher)
        check_pooling(self.pooling, self.stack, student, teacher)

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the examples and the layer pairs, and the number of examples."""
        valid, (student_stack, teacher_stack) = self.valid(batch), self.stacks

        def cost(s: int, t: int) -> Tensor:
            state = self.projections[str(s)](pool(student.hidden[student_stack, s].float(), valid, self.pooling))
            target = pool(teacher.hidden[teacher_stack, t].float(), self.teacher_valid(teacher, batch), self.pooling)
            return info_nce(state, target, self.temperature).sum()

        return self.pairing.at(values.epoch).total(cost), self.count(batch)
