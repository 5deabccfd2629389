"""The optimizer, and the learning rate over the run."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from prune_schedules.schedule import Linear, Moment, Schedule, Timeline


@dataclass(kw_only=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101); biases and norms are not decayed.

    Args:
        lr: the highest learning rate.
        warmup: the moment until which it rises from 0.
        schedule: its factor over the run.
        weight_decay: decoupled decay of matrices.
        betas: decay of the two moments of the gradient.
        eps: added to the root of the second moment.
    """

    lr: float = 5e-5
    warmup: Moment = Moment("6%")
    schedule: Schedule = Linear(initial=1.0, to=0.0)
    weight_decay: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8

    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError(f"lr: must be above 0, not {self.lr}")
        if len(self.betas) != 2:
            raise ValueError(f"betas: two numbers, not {len(self.betas)}")

    def rate(self, step: int, timeline: Timeline) -> float:
        """The learning rate of optimizer step ``step`` (counted from 0)."""
        warm = self.warmup.step(timeline)
        return self.lr * min(1.0, (step + 1) / (warm + 1)) * self.schedule.value(step, timeline)

    def build(self, module: nn.Module, fused: bool = True) -> torch.optim.AdamW:
        """AdamW over the parameters of ``module`` that are trained; Lightning clips gradients under autocast only
        if it is not fused.
        """
        trained = [p for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=self.lr, betas=tuple(self.betas), eps=self.eps, fused=fused
        )
