"""What a loss is: it says what it looks at, and returns a sum and a count."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from prune_schedules.schedule import START, STOP, Constant, Schedule, Timeline, TimePoint
from students.recording.batch import Batch
from students.recording.signals import Signals, Trace
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from transformers import PretrainedConfig

UNLABELED = -1
"""The class of a row that is to be judged and has no label; a number that is not known is NaN."""


@dataclass(frozen=True)
class LossValues:
    """What the scheduled fields of a loss are at one step; it does not change.

    Args:
        epoch: the pass over the data that the step belongs to, from 0.
        fields: by the name of the field; ``weight`` is 0 outside the window.
    """

    epoch: int
    fields: Mapping[str, float]

    def __post_init__(self):
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))

    def __getitem__(self, field: str) -> float:
        return self.fields[field]

    @property
    def weight(self) -> float:
        """The factor of the term."""
        return self.fields["weight"]

    def with_zero_weight(self) -> LossValues:
        """Return the same with a weight of 0."""
        return LossValues(self.epoch, {**self.fields, "weight": 0.0})


@dataclass(kw_only=True, eq=False)
class Loss(nn.Module, ABC):
    """A term of the training loss; its key in YAML is the name of its curve.

    Args:
        weight: the factor of the term, a number or a schedule.
        start: the moment from which the term counts.
        stop: the moment from which it no longer counts.
    """

    compares_examples: ClassVar[bool] = False
    """Whether it compares the examples of a batch with one another, so that of a single one it is 0."""
    uses_layers: ClassVar[bool] = False
    """Whether it looks inside the models; such a loss has a field ``teacher``, the name of one of several."""
    uses_all_classes: ClassVar[bool] = False
    """Whether it takes all classes as possible, those too that stand for padding."""

    weight: Schedule = Constant(1.0)
    start: TimePoint = START
    stop: TimePoint = STOP

    def __post_init__(self):
        super().__init__()
        self.student_signals, self.teacher_signals = Signals(), Signals()

    def at(self, step: int, timeline: Timeline) -> LossValues:
        """Return the value of each scheduled field at a step; the weight is 0 outside the window.

        Raises:
            ValueError: if a value is one that the loss cannot use, or a moment lies outside the run.
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
        """Set ``student_signals`` and ``teacher_signals`` and make projections, from the two models' configs.

        Raises:
            ValueError: if the models cannot give what the loss looks at.
        """

    def signals_at(self, values: LossValues) -> tuple[Signals, Signals]:
        """Return what it looks at in the student and in the teacher at a step; as a rule what ``setup`` has set."""
        return self.student_signals, self.teacher_signals

    @property
    def uses_attention(self) -> bool:
        """Whether it looks at the student's attention, once it is set up."""
        return bool(self.student_signals.attention)

    def active_steps(self, timeline: Timeline) -> list[range]:
        """Return the steps at which it has a weight, in stretches."""
        first, last = self.start.step(timeline), self.stop.step(timeline)
        weighted = self.weight.differs_from(0.0, timeline)
        inside = [range(max(steps.start, first), min(steps.stop, last)) for steps in weighted]
        return [steps for steps in inside if steps]

    @abstractmethod
    def count(self, batch: Batch) -> Tensor:
        """Return how many positions the loss is a mean over: of the rows alone, for they are counted as they are
        collated.
        """

    @abstractmethod
    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over valid positions (float32 scalar) and their count, for Σ sum / Σ count over batches and
        ranks.

        Args:
            student: what the student's forward pass left.
            teacher: the same of the teacher, if there is one.
            batch: of the rows.
            values: of the step, as ``at`` gives them.
        """


def loss_counts(losses: Iterable[Loss], batch: Batch) -> Tensor:
    """Return the counts of losses on a batch, float32 [L] in their order."""
    counts = [loss.count(batch).float() for loss in losses]
    return torch.stack(counts) if counts else torch.zeros(0)


class PerExample(Loss):
    """A loss with one value per example."""

    def count(self, batch: Batch) -> Tensor:
        """The number of examples."""
        return batch["input_ids"].new_tensor(len(batch["input_ids"]))


class PerPrediction(Loss):
    """A loss with one value per prediction of the head: an example, or each position that has a label."""

    def count(self, batch: Batch) -> Tensor:
        """The number of predictions."""
        return prediction_mask(batch).sum()


def check_factors(**factors: float) -> None:
    """Raises ValueError unless the factors of a loss's parts are numbers of at least 0, and one of them above it."""
    for name, factor in factors.items():
        if not 0 <= factor < math.inf:
            raise ValueError(f"{name}: must be a number of at least 0, not {factor}")
    if not any(factors.values()):
        raise ValueError(f"{next(iter(factors))}: with {' and '.join(factors)} at 0 nothing is compared")


def is_regression(batch: Batch) -> bool:
    """Whether the labels are real numbers, as in a regression."""
    return "labels" in batch and batch["labels"].is_floating_point()


def prediction_mask(batch: Batch) -> Tensor:
    """True where the head's answer counts, in the shape of the labels: not where an integer label is -100."""
    if "labels" not in batch or is_regression(batch):
        return batch["input_ids"].new_ones(len(batch["input_ids"])).bool()
    return batch["labels"] != IGNORED


def label_mask(batch: Batch) -> Tensor:
    """True where a prediction is asked and its label is known, in the shape of the labels."""
    labels = batch["labels"]
    return ~labels.isnan() if is_regression(batch) else (labels != IGNORED) & (labels != UNLABELED)


def matmul_float32(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` in float32: under autocast float() alone would not do, it makes factors half precision again."""
    with torch.autocast(left.device.type, enabled=False):
        return left.float() @ right.float()


def valid_tokens(batch: Batch, stack: str | None = None) -> Tensor:
    """True where a token is not padding, [B, S]; where a decoder has a text of its own, for its stack of that text."""
    own = batch.get("decoder_attention_mask") if stack in ("decoder", "cross") else None
    mask = batch.get("attention_mask") if own is None else own
    return batch["input_ids"].new_ones(batch["input_ids"].shape).bool() if mask is None else mask.bool()
