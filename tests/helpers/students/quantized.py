"""Fake quantization on a model."""

from torch import nn

from prune_schedules.schedule import Timeline
from quant_aware.quantize import Quantize

TIMELINE = Timeline(total_steps=10, epoch_steps=10)


def attached(model: nn.Module, quantize: Quantize, step: int = 9) -> dict[str, str]:
    """Attach and calibrate it at a step; return what is skipped, with the reason."""
    skipped = quantize.attach(model)
    quantize.update(step, TIMELINE)
    quantize.calibrate(model, was_enabled=False)
    return skipped
