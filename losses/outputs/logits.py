"""Losses on the outputs of student and teacher, as distributions over the same classes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from losses.loss import LossValues, PerPrediction, is_regression, label_mask, prediction_mask
from losses.outputs.divergences import jensen_shannon, kl, skew_kl, soften, total_variation
from prune_schedules.schedule import Constant, Schedule
from prune_schedules.timeline import Timeline
from students.recording.batch import Batch
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class LogitsLoss(PerPrediction):
    """The base class of losses that compare each prediction of the student with the teacher's."""

    needs_labels: ClassVar[bool] = False
    """Whether it needs the label, so that predictions without one do not count."""

    def count(self, batch: Batch) -> Tensor:
        """Return the number of predictions."""
        return self.compared(batch).sum()

    def compared(self, batch: Batch) -> Tensor:
        """Return where predictions are compared, boolean in the shape of the labels."""
        return label_mask(batch) if self.needs_labels else prediction_mask(batch)

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the logits of both models.

        Raises:
            ValueError: if there is no teacher, or it has another number of outputs.
        """
        if teacher is None:
            raise ValueError("the loss compares with a teacher, and the run has none")
        if student.num_labels != teacher.num_labels:
            raise ValueError(f"the student has {student.num_labels} outputs, the teacher {teacher.num_labels}")
        self.student_signals = self.teacher_signals = Signals(logits=True)

    @abstractmethod
    def distance(self, student: Tensor, teacher: Tensor, labels: Tensor | None, values: LossValues) -> Tensor:
        """Return the loss of each prediction, [N], from logits [N, C] and labels [N]."""

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the predictions, and their number."""
        mask, labels = self.compared(batch), batch.get("labels")
        labels = None if labels is None else labels[mask]
        return self.distance(logits_of(student)[mask], logits_of(teacher)[mask], labels, values).sum(), mask.sum()


def logits_of(trace: Trace | None) -> Tensor:
    """Return the logits of a trace.

    Raises:
        ValueError: if there is no trace, or its signals were not set by ``setup``.
    """
    if trace is None or trace.logits is None:
        raise ValueError("the loss compares logits, which were not requested; call setup first")
    return trace.logits


def check_temperature(values: LossValues, step: int) -> LossValues:
    """Return the values of a step; raise ValueError if the temperature in them is not above 0."""
    if values["temperature"] <= 0:
        raise ValueError(f"temperature: must be above 0, and is {values['temperature']} at step {step}")
    return values


@dataclass(kw_only=True, eq=False)
class TemperatureLoss(LogitsLoss):
    """The base class of losses on softened outputs. For a single output (regression) use ``LogitsMSE``.

    Args:
        temperature: T, a number or a schedule, by which the logits are divided. The loss is multiplied by T squared
            (total variation by T), so that the scale of its gradient does not change (Hinton, Vinyals, Dean 2015).
    """

    temperature: Schedule = Constant(1.0)

    def count(self, batch: Batch) -> Tensor:
        """Return the number of predictions; 0 for the batch of a regression, if there are several tasks."""
        return super().count(batch) * (not is_regression(batch))

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the logits of both models.

        Raises:
            ValueError: if there is no teacher, or the outputs are not a distribution over the same classes.
        """
        super().setup(student, teacher)
        if student.num_labels == 1:
            raise ValueError("a single output has no distribution; use LogitsMSE for regression")

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the predictions, and their number; zeros for the batch of a regression."""
        if is_regression(batch):  # real labels have no one-hot form, and a single output no distribution
            return logits_of(student).float().sum() * 0.0, self.count(batch)
        return super().forward(student, teacher, batch, values)

    def at(self, step: int, timeline: Timeline) -> LossValues:
        """Return the values of a step.

        Raises:
            ValueError: if the temperature is not above 0, as in a ramp that starts from the default of 0.
        """
        return check_temperature(super().at(step, timeline), step)


@dataclass(kw_only=True, eq=False)
class Divergence(TemperatureLoss):
    """The base class of divergences between distributions.

    Args:
        top_k: compare only the teacher's K most probable classes.
        tail: with ``top_k``, whether the total probability of all other classes is one more class; if not, both
            distributions are renormalised over the K classes.
    """

    power: ClassVar[int] = 2
    """The power of 1 / T with which the gradient of the divergence shrinks."""

    top_k: int | None = None
    tail: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k is not None and self.top_k < (1 if self.tail else 2):
            raise ValueError(f"top_k: {self.top_k} leaves no distribution to compare")

    @property
    def compares_classes(self) -> bool:  # type: ignore[override]  # a flag may be a property
        """Whether it selects some classes."""
        return self.top_k is not None

    @abstractmethod
    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return the divergence between the teacher's p and the student's q, [N], from log-probabilities [N, C]."""

    def distance(self, student: Tensor, teacher: Tensor, labels: Tensor | None, values: LossValues) -> Tensor:
        log_q, log_p = soften(student, teacher, values["temperature"], self.top_k, self.tail)
        return values["temperature"] ** self.power * self.divergence(log_p, log_q)


@dataclass(kw_only=True, eq=False)
class Logits(Divergence):
    """Forward KL(p_T, p_S), mode-covering (Hinton, Vinyals, Dean 2015, arXiv 1503.02531)."""

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return kl(log_p, log_q)


@dataclass(kw_only=True, eq=False)
class ReverseKL(Divergence):
    """Reverse KL(p_S, p_T), mode-seeking (Gu et al. 2023, arXiv 2306.08543)."""

    @property
    def is_infinite_at_zero(self) -> bool:
        """Whether it is infinite where the teacher's probability of a class is 0: always."""
        return True

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return kl(log_q, log_p)


@dataclass(kw_only=True, eq=False)
class JensenShannon(Divergence):
    """``beta KL(p_T, m) + (1 - beta) KL(p_S, m)``, m = beta p_T + (1 - beta) p_S (GKD, Agarwal et al. 2023, arXiv
    2306.13649).

    Args:
        beta: interpolates from forward (near 0) to reverse KL (near 1).
    """

    beta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta < 1:
            raise ValueError(f"beta: must lie between 0 and 1, not {self.beta}; at the ends use Logits or ReverseKL")

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return jensen_shannon(log_p, log_q, self.beta)


@dataclass(kw_only=True, eq=False)
class _Skew(Divergence):
    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha: must lie in [0, 1), not {self.alpha}")


@dataclass(kw_only=True, eq=False)
class SkewKL(_Skew):
    """``KL(p_T, alpha p_T + (1 - alpha) p_S)``, bounded where the student's probability is 0 (DistiLLM, Ko et al. 2024,
    arXiv 2402.03898).

    Args:
        alpha: the teacher's weight in the mixture.
    """

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return skew_kl(log_p, log_q, self.alpha)


@dataclass(kw_only=True, eq=False)
class SkewReverseKL(_Skew):
    """``KL(p_S, (1 - alpha) p_T + alpha p_S)``, reverse and bounded (DistiLLM, Ko et al. 2024, arXiv 2402.03898).

    Args:
        alpha: the student's weight in the mixture.
    """

    @property
    def is_infinite_at_zero(self) -> bool:
        """Whether nothing of the student is in the mixture."""
        return self.alpha == 0

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return skew_kl(log_q, log_p, self.alpha)


@dataclass(kw_only=True, eq=False)
class TotalVariation(Divergence):
    """``1/2 sum |p_T - p_S|``, bounded and symmetric (f-distill, Wen et al. 2023, arXiv 2307.15190)."""

    power = 1

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return total_variation(log_p, log_q)
