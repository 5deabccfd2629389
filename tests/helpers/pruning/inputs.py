"""Pruners that have read a batch."""

import torch

from prune_schedules.schedule import Steps, Timeline
from tests.helpers.families import batch, tiny

TIMELINE = Timeline(total_steps=20, epoch_steps=10)
ONCE = Steps(at={"25%": 0.5})


def read(name: str, pruner, inputs: dict) -> torch.nn.Module:
    """A model that has read one batch, with masks made of it."""
    model = hear(tiny(name).eval(), pruner)
    attach(model, pruner, inputs)
    return model


def hear(model: torch.nn.Module, pruner) -> torch.nn.Module:
    """A model without dropout, whose layers say that they are in training: otherwise they are not listened to."""
    pruner.attach(model)
    for part in pruner.targets:
        part.reader.training = True
    return model


def attach(model: torch.nn.Module, pruner, inputs: dict) -> None:
    """One batch is read before masks are due."""
    pruner.before_forward(4, TIMELINE, inputs)
    model(**inputs)
    pruner.before_optimizer_step(4, TIMELINE)


def padded(name: str) -> dict:
    inputs = batch(name)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["attention_mask"][:, -3:] = 0
    return inputs
