"""Tiny models without some of their attentions and feed-forwards."""

import torch
from torch import nn

from prune_schedules.structure.cut import cut
from students.recording.signals import Signals
from students.recording.trace import Recorder
from students.structure.units import branches, heads
from tests.helpers.families import Head, batch, everything, tiny


def empty(model: nn.Module, names: set[str]) -> nn.Module:
    """The model, with zeros in all that belongs to these branches."""
    with torch.no_grad():
        for units in branches(model):
            for part in units.slices if units.name in names else []:
                getattr(part.module, part.name).zero_()
    return model


def gone(name: str, keep: int = 1, head: Head = "classification") -> nn.Module:
    """A tiny model, cut, of whose branches only the first ``keep`` feed-forwards are left."""
    model = tiny(name, head=head)
    cut(empty(model, {units.name for units in branches(model)[keep:]}))
    return model


def home_of(name: str) -> str:
    return "ffn" if name.endswith(".ffn") else "attention"


def traced(model: nn.Module, name: str):
    signals = everything(model.config)
    left = {(units.name.split(".")[0], int(units.name.split(".")[1]) + 1) for units in heads(model) if units.count}
    with torch.no_grad():
        return Recorder(model).trace(batch(name), Signals(True, signals.hidden, signals.attention & left))
