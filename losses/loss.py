"""What a loss is: it says what it looks at, and returns a sum and a count."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prune_schedules.schedule import START, STOP, Constant, Moment, Schedule, Timeline
from students.recording.signals import Signals, Trace
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from transformers import PretrainedConfig

UNKNOWN = -1
"""The class of a row that is to be judged and has no label; a number that is not known is NaN."""


@dataclass(kw_only=True, eq=False)
class Loss(nn.Module, ABC):
    """A term of the training loss; its key in YAML is the name of its curve.

    Args:
        weight: the factor of the term, a number or a schedule.
        start: the moment from which the term counts.
        stop: the moment from which it no longer counts.
    """

    weight: Schedule = Constant(1.0)
    start: Moment = START
    stop: Moment = STOP

    def __post_init__(self):
        super().__init__()
        self.student_needs, self.teacher_needs = Signals(), Signals()
        self.now: dict[str, float] = {}

    def at(self, step: int, timeline: Timeline) -> None:
        """Sets ``now``, the value of each scheduled field at this step; the weight is 0 outside the window.

        Raises:
            ValueError: if a value is one that the loss cannot use, or a moment lies outside the run.
        """
        self.now = {
            f.name: getattr(self, f.name).value(step, timeline)
            for f in fields(self)
            if isinstance(getattr(self, f.name), Schedule)
        }
        if not self.start.step(timeline) <= step < self.stop.step(timeline):
            self.now["weight"] = 0.0

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Sets ``student_needs`` and ``teacher_needs`` and makes projections, from the two models' configs.

        Raises:
            ValueError: if the models cannot give what the loss looks at.
        """

    @property
    def among_examples(self) -> bool:
        """Whether it compares the examples of a batch with one another, so that of a single one it is 0."""
        return False

    @abstractmethod
    def count(self, batch: dict[str, Tensor]) -> Tensor:
        """How many positions the loss is a mean over, from the batch alone: a window is counted before it runs."""

    @abstractmethod
    def forward(self, student: Trace, teacher: Trace | None, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The sum over valid positions (float32 scalar) and their count, for Σ sum / Σ count over batches and ranks."""


class PerExample(Loss):
    """A loss with one value per example."""

    def count(self, batch: dict[str, Tensor]) -> Tensor:
        """The number of examples."""
        return batch["input_ids"].new_tensor(len(batch["input_ids"]))


class PerPrediction(Loss):
    """A loss with one value per prediction of the head: an example, or each position that has a label."""

    def count(self, batch: dict[str, Tensor]) -> Tensor:
        """The number of predictions."""
        return predicted(batch).sum()


def check_factors(**factors: float) -> None:
    """Raises ValueError unless the factors of a loss's parts are numbers of at least 0, and one of them above it."""
    for name, factor in factors.items():
        if not 0 <= factor < math.inf:
            raise ValueError(f"{name}: must be a number of at least 0, not {factor}")
    if not any(factors.values()):
        raise ValueError(f"{next(iter(factors))}: with {' and '.join(factors)} at 0 nothing is compared")


def of_numbers(batch: dict[str, Tensor]) -> bool:
    """Whether the labels are real numbers, as in a regression."""
    return "labels" in batch and batch["labels"].is_floating_point()


def predicted(batch: dict[str, Tensor]) -> Tensor:
    """True where the head's answer counts, in the shape of the labels: not where an integer label is -100."""
    if "labels" not in batch or of_numbers(batch):
        return batch["input_ids"].new_ones(len(batch["input_ids"])).bool()
    return batch["labels"] != IGNORED


def known(batch: dict[str, Tensor]) -> Tensor:
    """True where a prediction is asked and its label is known, in the shape of the labels."""
    labels = batch["labels"]
    return ~labels.isnan() if of_numbers(batch) else (labels != IGNORED) & (labels != UNKNOWN)


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` in float32: under autocast float() alone would not do, it makes factors half precision again."""
    with torch.autocast(left.device.type, enabled=False):
        return left.float() @ right.float()


def valid_tokens(batch: dict[str, Tensor], stack: str | None = None) -> Tensor:
    """True where a token is not padding, [B, S]; where a decoder has a text of its own, for its stack of that text."""
    own = batch.get("decoder_attention_mask") if stack in ("decoder", "cross") else None
    mask = batch.get("attention_mask") if own is None else own
    return batch["input_ids"].new_ones(batch["input_ids"].shape).bool() if mask is None else mask.bool()
