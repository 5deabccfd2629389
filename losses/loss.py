"""The base class of losses: a loss declares the signals it needs, and returns a sum and a count."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from prune_schedules.schedule import Constant, Schedule
from prune_schedules.timeline import START, STOP, Timeline, TimePoint
from students.recording.batch import Batch
from students.recording.signals import Signals, Trace
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from transformers import PretrainedConfig

UNLABELED = -1
"""The class of a prediction without a label, on which only teachers are compared; in a regression it is NaN."""


@dataclass(frozen=True)
class LossValues:
    """The values of a loss's scheduled fields at one step; immutable.

    Args:
        epoch: of the step, from 0.
        fields: values by name; ``weight`` is 0 outside the window from ``start`` to ``stop``.
    """

    epoch: int
    fields: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))

    def __getitem__(self, field: str) -> float:
        return self.fields[field]

    @property
    def weight(self) -> float:
        """The factor of the term in the training loss."""
        return self.fields["weight"]

    def with_zero_weight(self) -> LossValues:
        """Return a copy with a weight of 0."""
        return LossValues(self.epoch, {**self.fields, "weight": 0.0})


@dataclass(kw_only=True, eq=False)
class Loss(nn.Module, ABC):
    """A term of the training loss; its YAML key is the name of its curve.

    Args:
        weight: the factor of the term, a number or a schedule.
        start: the time point from which the term counts.
        stop: the time point from which it no longer counts.
    """

    compares_examples: ClassVar[bool] = False
    """Whether it compares the examples of a batch with one another, so that it is 0 for a single one."""
    uses_layers: ClassVar[bool] = False
    """Whether it compares layers; such a loss has a field ``teacher``, the name of one of several teachers."""
    uses_all_classes: ClassVar[bool] = False
    """Whether it compares all classes, including those that only pad the output."""
    reads_predictions: ClassVar[bool] = False
    """Whether it needs predictions of the head, or labels."""
    compares_passages: ClassVar[bool] = False
    """Whether it compares the passages of a query with one another."""
    compares_vectors: ClassVar[bool] = False
    """Whether it compares the vectors of texts."""
    compares_classes: ClassVar[bool] = False
    """Whether it compares the classes of a distribution with one another, which needs more than two."""

    balances_experts: ClassVar[bool] = False
    """Whether it spreads the tokens over the student's experts."""

    weight: Schedule = Constant(1.0)
    start: TimePoint = START
    stop: TimePoint = STOP

    def __post_init__(self) -> None:
        super().__init__()
        self.student_signals, self.teacher_signals = Signals(), Signals()

    def at(self, step: int, timeline: Timeline) -> LossValues:
        """Return the value of each scheduled field at a step; the weight is 0 outside the window.

        Raises:
            ValueError: if a value is not valid for the loss, or a time point lies outside the run.
        """
        values = {
            f.name: getattr(self, f.name).value(step, timeline)
            for f in fields(self)
            if isinstance(getattr(self, f.name), Schedule)
        }
        if not self.start.step(timeline) <= step < self.stop.step(timeline):
            values["weight"] = 0.0
        return LossValues(step // timeline.epoch_steps, values)

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Set ``student_signals`` and ``teacher_signals``, and create projections, from the configs of both models.

        Raises:
            ValueError: if a model lacks a signal.
        """

    def setup_classes(self, counts: Mapping[str, int], rows: int) -> None:
        """Read the class frequencies of the training rows; called after ``setup``, and does nothing by default.

        Args:
            counts: {class: number of training rows with it} in the order of the outputs; empty without classes.
            rows: the number of training rows with labels.

        Raises:
            ValueError: if the loss cannot be used with these classes.
        """

    def signals_at(self, values: LossValues) -> tuple[Signals, Signals]:
        """Return the signals of student and teacher at a step; by default those that ``setup`` has set."""
        return self.student_signals, self.teacher_signals

    @property
    def compares_tokens(self) -> bool:
        """Whether it compares the tokens of a text one by one, so that student and teacher must read the same.

        By default, if it needs more than outputs; valid after ``setup``.
        """
        return bool(replace(self.teacher_signals, logits=False))

    @property
    def is_infinite_at_zero(self) -> bool:
        """Whether it is infinite where the teacher's probability of a class is 0."""
        return False

    @property
    def uses_attention(self) -> bool:
        """Whether it needs the student's attention; valid after ``setup``."""
        return bool(self.student_signals.attention)

    def active_steps(self, timeline: Timeline) -> list[range]:
        """Return the ranges of steps at which the weight is not 0."""
        first, last = self.start.step(timeline), self.stop.step(timeline)
        nonzero = self.weight.differs_from(0.0, timeline)
        inside = [range(max(steps.start, first), min(steps.stop, last)) for steps in nonzero]
        return [steps for steps in inside if steps]

    @abstractmethod
    def count(self, batch: Batch) -> Tensor:
        """Return the number of positions that the loss averages over; it depends on the batch alone, not on models."""

    @abstractmethod
    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over valid positions (float32 scalar) and their count.

        The loss is Σ sum / Σ count over the batches of the accumulation window and all ranks.

        Args:
            student: the trace of the student.
            teacher: the trace of the teacher, if there is one.
            batch: of the traces.
            values: of ``at`` for this step.
        """


def loss_counts(losses: Iterable[Loss], batch: Batch) -> Tensor:
    """Return the counts of losses for a batch, float32 [L] in their order."""
    counts = [loss.count(batch).float() for loss in losses]
    return torch.stack(counts) if counts else torch.zeros(0)


class PerExample(Loss):
    """A loss with one value per example."""

    def count(self, batch: Batch) -> Tensor:
        """Return the number of examples."""
        return batch["input_ids"].new_tensor(len(batch["input_ids"]))


class PerPrediction(Loss):
    """A loss with one value per prediction of the head: one for an example, or for each position with a label."""

    reads_predictions: ClassVar[bool] = True

    def count(self, batch: Batch) -> Tensor:
        """Return the number of predictions."""
        return prediction_mask(batch).sum()


def check_factors(**factors: float) -> None:
    """Raise ValueError unless the factors of a loss's parts are at least 0, and one of them above."""
    for name, factor in factors.items():
        if not 0 <= factor < math.inf:
            raise ValueError(f"{name}: must be a number of at least 0, not {factor}")
    if not any(factors.values()):
        raise ValueError(f"{next(iter(factors))}: with {' and '.join(factors)} at 0 nothing is compared")


def is_regression(batch: Batch) -> bool:
    """Return whether the labels are real numbers."""
    return "labels" in batch and batch["labels"].is_floating_point()


def prediction_mask(batch: Batch) -> Tensor:
    """Return where a prediction counts, boolean in the shape of the labels.

    That is not where an integer label is -100, or a real one minus infinity.
    """
    if "labels" not in batch:
        return batch["input_ids"].new_ones(len(batch["input_ids"])).bool()
    return ~batch["labels"].isneginf() if is_regression(batch) else batch["labels"] != IGNORED


def label_mask(batch: Batch) -> Tensor:
    """Return where a prediction counts and has a label, boolean in the shape of the labels."""
    labels = batch["labels"]
    return labels.isfinite() if is_regression(batch) else (labels != IGNORED) & (labels != UNLABELED)


def matmul_float32(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left @ right`` in float32, also under autocast, which would cast the factors to half precision."""
    with torch.autocast(left.device.type, enabled=False):
        return left.float() @ right.float()


def valid_tokens(batch: Batch, stack: str | None = None) -> Tensor:
    """Return where a token is not padding, boolean [B, S]; for the decoder of an encoder-decoder, of its own input."""
    decoder_mask = batch.get("decoder_attention_mask") if stack in ("decoder", "cross") else None
    mask = batch.get("attention_mask") if decoder_mask is None else decoder_mask
    return batch["input_ids"].new_ones(batch["input_ids"].shape).bool() if mask is None else mask.bool()
