"""Check weights for NaN and infinity before anything is computed with them."""

from __future__ import annotations

import torch
from torch import nn


def check_finite_weights(model: nn.Module) -> None:
    """Raise ValueError naming the first weight of a model that is not finite."""
    for name, parameter in model.named_parameters():
        if parameter.numel() and not torch.stack(torch.aminmax(parameter.detach())).isfinite().all():
            count = int((~parameter.detach().isfinite()).sum())
            entries = f"{count} of {parameter.numel()} numbers of its weight {plain_name(name)}"
            raise ValueError(f"model: {entries} are NaN or infinite")


def plain_name(name: str) -> str:
    """Return the name of a parameter as in the model's file."""
    return name.replace("parametrizations.", "").removesuffix(".original")
