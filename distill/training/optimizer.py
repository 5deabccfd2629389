"""Build AdamW from its settings, and find the parameters that are frozen at a step."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import nn

from distill.experiment.optimizer import Optimizer
from prune_schedules.schedule import Timeline
from students.weights import parameter_names


def frozen_parameters(settings: Optimizer, student: nn.Module, step: int, timeline: Timeline) -> list[nn.Parameter]:
    """Return the parameters frozen at optimizer step ``step``; a tied parameter matches by any of its names."""
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
    """Return AdamW over the trained parameters of a module; biases and norms have no weight decay.

    Args:
        settings: the settings of the optimizer.
        module: a module with parameters that require a gradient.
        fused: use the fused kernel; Lightning cannot clip gradients under autocast with it.
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
