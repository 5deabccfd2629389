"""How states change from layer to layer: the flow of a solution procedure."""

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
    """``G = (1/n) sum_pos x y^T`` [B, H, H] of two layers [B, S, H], over the n positions that are ``valid`` [B, S]."""
    x, y = (torch.where(valid[..., None], states, 0.0) for states in (first, second))
    return matmul_float32(x.mT, y) / valid.sum(1).clamp(min=1)[:, None, None]


@dataclass(kw_only=True, eq=False)
class Flow(PerExample, ProjectedLoss):
    """Squared error of the products of each compared layer with the next, mean over the products (FSP, Yim et al. 2017,
    CVPR).
    """

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Ask for the layers that are compared.

        Raises:
            ValueError: if there are fewer than two, or they have no order.
        """
        super().setup(student, teacher)
        if not self.pairing.is_sequence:
            raise ValueError(f"layers: a flow runs from layer to layer, and {self.layers!r} gives no two in a row")

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Sum over the examples and the pairs of neighbouring layers, number of examples."""
        valid, (mine, theirs), flows = self.valid(batch), self.stacks, []
        for s, t in self.pairing.at(values.epoch).pairs:
            # masked before the projection too: 0 times what an overflow left at padding would be NaN
            state = torch.where(valid[..., None], student.hidden[mine, s].float(), 0.0)
            flows.append((self.projections[str(s)](state), teacher.hidden[theirs, t]))
        terms = [
            (flow(first[0], second[0], valid) - flow(first[1], second[1], valid)).square().mean((1, 2)).sum()
            for first, second in pairwise(flows)
        ]
        return torch.stack(terms).sum(), self.count(batch)
