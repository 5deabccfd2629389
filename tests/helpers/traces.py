"""Every loss, and real traces of tiny models for them to look at; shared by the tests of the losses."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from losses.loss import Loss, LossValues
from losses.outputs.correlation import DIST
from losses.outputs.decoupled import DKD
from losses.outputs.divergences import kl, soften
from losses.outputs.labels import Labels
from losses.outputs.logits import JensenShannon, Logits, ReverseKL, SkewKL, SkewReverseKL, TotalVariation
from losses.outputs.mse import LogitsMSE
from losses.pairing import LayerLoss
from losses.pairs.attention import AttentionKL, AttentionScores
from losses.pairs.relations import Relations
from losses.states.contextual import Contextual
from losses.states.contrastive import Contrastive
from losses.states.flow import Flow
from losses.states.hidden import FeatureMap, FeatureStatistics, HiddenCosine, HiddenMSE, PatientHidden
from prune_schedules.schedule import Constant, Timeline
from students.recording.signals import Signals, Site, Trace
from students.recording.trace import Recorder
from tests.helpers.families import PAD, tiny


def forward_kl(student: Tensor, teacher: Tensor, t: float) -> Tensor:
    """What ``Logits`` adds up, per prediction."""
    log_q, log_p = soften(student, teacher, t)
    return t**2 * kl(log_p, log_q)


LOSSES: dict[str, Callable[[], Loss]] = {
    "Labels": Labels,
    "Labels, focal": lambda: Labels(focal=2.0),
    "Labels, balanced": lambda: Labels(class_weights="balanced"),
    "Logits": lambda: Logits(temperature=Constant(2.0)),
    "LogitsMSE": LogitsMSE,
    "Logits, top 2 and the rest": lambda: Logits(top_k=2),
    "Logits, top 2": lambda: Logits(top_k=2, tail=False),
    "ReverseKL": ReverseKL,
    "JensenShannon": lambda: JensenShannon(beta=0.3),
    "SkewKL": SkewKL,
    "SkewReverseKL": SkewReverseKL,
    "TotalVariation": TotalVariation,
    "DKD": DKD,
    "DIST": lambda: DIST(gamma=0.0),
    "DIST, within classes": DIST,
    "HiddenMSE": HiddenMSE,
    "HiddenCosine": lambda: HiddenCosine(layers="uniform"),
    "PatientHidden": PatientHidden,
    "PatientHidden, mean": lambda: PatientHidden(pooling="mean"),
    "FeatureMap": FeatureMap,
    "FeatureStatistics": FeatureStatistics,
    "HiddenMSE, mixture": lambda: HiddenMSE(layers="mixture"),
    "Contextual": Contextual,
    "Contextual, layers": lambda: Contextual(over="layers"),
    "Contextual, examples": lambda: Contextual(over="examples"),
    "Contrastive": Contrastive,
    "HiddenMSE, random": lambda: HiddenMSE(layers="random"),
    "HiddenMSE, nearest": lambda: HiddenMSE(layers="nearest"),
    "HiddenMSE, transport": lambda: HiddenMSE(layers="transport"),
    "Flow": Flow,
    "AttentionScores": AttentionScores,
    "AttentionKL": lambda: AttentionKL(layers="uniform"),
    "Relations": lambda: Relations(layers="uniform", heads=8),
    "MiniLM": lambda: Relations(relations=["qk", "vv"]),
}

OF_ONE_BATCH = {
    "DIST, within classes": "a class is correlated over the predictions of a batch",
    "Contextual, examples": "the examples of a batch are related to one another",
    "Contrastive": "each example is to be told from the others of its batch",
    "HiddenMSE, nearest": "the nearest layer is that of the whole batch",
    "HiddenMSE, transport": "the plan of least cost is that of the whole batch",
}
"""The losses that are no sum over the rows of a batch, and why."""


def set_up(loss: Loss, student: torch.nn.Module, teacher: torch.nn.Module) -> Loss:
    """The loss, ready for two models."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        loss.setup(student.config, teacher.config)
    counts = {name: 3**number for number, name in student.config.id2label.items()}
    loss.setup_classes(counts, sum(counts.values()))
    return loss


def first(loss: Loss) -> LossValues:
    """What is scheduled in it at the first step."""
    return loss.at(0, Timeline(10, 5))


def traced(model: torch.nn.Module, needs: Signals, data: dict[str, Tensor]) -> Trace:
    """The trace of a forward pass, its tensors leaves that want a gradient."""
    recorder = Recorder(model)
    with torch.no_grad():
        trace = recorder.trace(data, needs)
    recorder.close()

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().clone().requires_grad_()

    return Trace(
        None if trace.logits is None else leaf(trace.logits),
        {site: leaf(state) for site, state in trace.hidden.items()},
        {
            site: replace(a, query=leaf(a.query), key=leaf(a.key), value=leaf(a.value))
            for site, a in trace.attention.items()
        },
        trace.valid,
    )


def look(loss: Loss, student: torch.nn.Module, teacher: torch.nn.Module, data: dict) -> tuple[Trace, Trace]:
    """Both traces of what the loss, set up already, needs."""
    return traced(student, loss.student_signals, data), traced(teacher, loss.teacher_signals, data)


def pair(name: str, width: int = 24) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A student of 2 blocks and a teacher of 4 and width 32, both with 4 heads."""
    return tiny(name, layers=2, hidden=width), tiny(name, layers=4, hidden=32)


def sites(loss: LayerLoss) -> list[tuple[Site, Site]]:
    """The pairs of sites that a loss compares."""
    return [((loss.stacks[0], s), (loss.stacks[1], t)) for s, t in loss.pairing.pairs]


def leaves(trace: Trace) -> list[Tensor]:
    """Every tensor of a trace that may get a gradient."""
    attention = [tensor for a in trace.attention.values() for tensor in (a.query, a.key, a.value)]
    return [tensor for tensor in (trace.logits, *trace.hidden.values(), *attention) if tensor is not None]


def widened(name: str, data: dict[str, Tensor], columns: int = 3) -> dict[str, Tensor]:
    """The batch with more columns of padding."""
    fill = {"input_ids": PAD.get(name, 0)}
    return {
        key: F.pad(value, (0, columns), value=fill.get(key, 0)) if value.ndim == 2 else value
        for key, value in data.items()
    }


DRAW = torch.Generator().manual_seed(0)


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def projected(loss: Loss, layer: int, state: torch.Tensor) -> torch.Tensor:
    """What a loss makes of the student's states before it compares them, in float64."""
    linear = loss.projections[str(layer)]
    return state.detach().double() @ linear.weight.detach().double().T + linear.bias.detach().double()
