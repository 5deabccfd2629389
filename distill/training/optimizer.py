"""AdamW as its settings say, and the parameters that a step leaves alone."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import nn

from distill.experiment.optimizer import Optimizer
from prune_schedules.schedule import Timeline
from students.weights import parameter_names


def frozen_parameters(settings: Optimizer, student: nn.Module, step: int, timeline: Timeline) -> list[nn.Parameter]:
    """Return the parameters that optimizer step ``step`` does not move; a tied one is meant by each of its names."""
    patterns = [pattern for pattern, until in settings.freeze.items() if step < until.step(timeline)]
    if not patterns:
        return []
    names = parameter_names(student)
    return [
        parameter
        for parameter in student.parameters()
        if any(fnmatchcase(name, pattern) for name in names[id(parameter)] for pattern in patterns)
    ]


def build_optimizer(settings: Optimizer, module: nn.Module, fused: bool = True) -> torch.optim.AdamW:
    """Return AdamW over the parameters of ``module`` that are trained.

    Args:
        settings: of the run.
        module: whose matrices are decayed, and whose biases and norms are not.
        fused: one kernel for all; Lightning clips gradients under autocast only without it.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=tuple(settings.betas),
        eps=settings.eps,
        fused=fused,
    )
