"""Models that are masked for good, and whether what is left of one can be trained."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from prune_schedules.ranking import Scope
from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.targets.shapes import Shape
from students.structure.places import Where


def mask(
    model: PreTrainedModel,
    share: float,
    shape: Shape = "elements",
    scope: Scope | None = None,
    where: list[Where] | None = None,
) -> Magnitude:
    """What has masked this share of the model, by magnitude."""
    pruner = Magnitude(sparsity=Constant(share), shape=shape, scope=scope, where=where)
    pruner.attach(model)
    pruner.update(0, Timeline(total_steps=10, epoch_steps=10))
    return pruner


def without(model: PreTrainedModel, shares: dict[str, float], scope: Scope | None = None) -> PreTrainedModel:
    """The model without these shares of its elements, neurons and so on, by magnitude, one shape after the other."""
    for shape, share in shares.items():
        mask(model, share, shape, scope)
    return model


def learns(model: PreTrainedModel, inputs: dict[str, Tensor]) -> bool:
    """Whether five steps on a batch make its loss smaller, with the same dropout whatever was drawn before."""
    torch.manual_seed(0)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for _ in range(5):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[-1] < losses[0]
