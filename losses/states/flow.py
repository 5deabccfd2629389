"""A loss on the flow of a solution procedure (FSP): how states change from layer to layer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from losses.loss import LossValues, PerExample, matmul_float32
from losses.states.hidden import ProjectedLoss
from students.recording.batch import Batch
from students.recording.signals import Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def flow(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Return ``G = (1/n) sum_pos x y^T`` [B, H, H] of two layers [B, S, H], over the n ``valid`` positions [B, S]."""
    x, y = (torch.where(valid[..., None], states, 0.0) for states in (first, second))
    return matmul_float32(x.mT, y) / valid.sum(1).clamp(min=1)[:, None, None]


@dataclass(kw_only=True, eq=False)
class Flow(PerExample, ProjectedLoss):
    """Mean squared error of the FSP matrices, products of each compared layer with the next (Yim et al. 2017, CVPR)."""

    @property
    def compares_tokens(self) -> bool:
        return False

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the layers that are compared.

        Raises:
            ValueError: if there are fewer than two, or they have no order.
        """
        super().setup(student, teacher)
        if not self.pairing.is_sequence:
            raise ValueError(f"layers: a flow needs two or more pairs in order, which {self.layers!r} does not give")

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the examples and the pairs of neighbouring layers, and the number of examples."""
        valid, (student_stack, teacher_stack), pairs = self.valid(batch), self.stacks, []
        teacher_valid = self.teacher_valid(teacher, batch)
        for s, t in self.pairing.at(values.epoch).pairs:
            # masked before the projection, too: 0 times an overflow at padding would be NaN
            state = torch.where(valid[..., None], student.hidden[student_stack, s].float(), 0.0)
            pairs.append((self.projections[str(s)](state), teacher.hidden[teacher_stack, t]))
        terms = [
            (flow(first[0], second[0], valid) - flow(first[1], second[1], teacher_valid)).square().mean((1, 2)).sum()
            for first, second in pairwise(pairs)
        ]
        return torch.stack(terms).sum(), self.count(batch)
