"""The student's outputs against the teacher's, as distributions over the same classes or as numbers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from losses.loss import LossValues, PerPrediction, is_regression, label_mask, prediction_mask
from losses.outputs.divergences import jensen_shannon, kl, skew_kl, soften, total_variation
from prune_schedules.schedule import Constant, Schedule, Timeline
from students.recording.batch import Batch
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class LogitsLoss(PerPrediction):
    """What the losses on outputs share: each prediction of the student is compared with the teacher's."""

    needs_labels: ClassVar[bool] = False
    """Whether it looks at the label too, so that rows without one do not count."""

    def count(self, batch: Batch) -> Tensor:
        """The number of predictions."""
        return self.compared(batch).sum()

    def compared(self, batch: Batch) -> Tensor:
        """True where the two are compared, in the shape of the labels."""
        return label_mask(batch) if self.needs_labels else prediction_mask(batch)

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Ask both models for their logits.

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
        """Return what each of N predictions adds to the loss, [N], of logits [N, C] and labels [N]."""

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Sum over the predictions, number of predictions."""
        chosen, labels = self.compared(batch), batch.get("labels")
        labels = None if labels is None else labels[chosen]
        return self.distance(student.logits[chosen], teacher.logits[chosen], labels, values).sum(), chosen.sum()


@dataclass(kw_only=True, eq=False)
class TemperatureLoss(LogitsLoss):
    """What losses on softened outputs share. A single output (regression) has no distribution: use ``LogitsMSE`` there.

    Args:
        temperature: T, by which the logits are divided, a number or a schedule. The loss is multiplied by T squared
            (total variation by T), so that its gradient keeps its size (Hinton, Vinyals, Dean 2015).
    """

    temperature: Schedule = Constant(1.0)

    def count(self, batch: Batch) -> Tensor:
        """The number of predictions; none where, of several tasks, it is a batch of numbers."""
        return super().count(batch) * (not is_regression(batch))

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Ask both models for their logits.

        Raises:
            ValueError: if there is no teacher, or the outputs are not a distribution over the same classes.
        """
        super().setup(student, teacher)
        if student.num_labels == 1:
            raise ValueError("a single output has no distribution; use LogitsMSE for regression")

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Sum over the predictions, number of predictions; nothing of a batch of numbers."""
        if is_regression(batch):  # of which a one-hot, or a correlation, is none or a constant
            return student.logits.float().sum() * 0.0, self.count(batch)
        return super().forward(student, teacher, batch, values)

    def at(self, step: int, timeline: Timeline) -> LossValues:
        """Return the values of a step.

        Raises:
            ValueError: if the temperature is not above 0, as where a ramp starts from the default of 0.
        """
        values = super().at(step, timeline)
        if values["temperature"] <= 0:
            raise ValueError(f"temperature: must be above 0, and is {values['temperature']} at step {step}")
        return values


@dataclass(kw_only=True, eq=False)
class Divergence(TemperatureLoss):
    """What the divergences share.

    Args:
        top_k: compare only the teacher's likeliest K classes.
        tail: with ``top_k``, the mass of all other classes counts as one class more; else both models are
            renormalised over the K.
    """

    power: ClassVar[int] = 2
    """The power of T with which the gradient of the divergence shrinks."""

    top_k: int | None = None
    tail: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.top_k is not None and self.top_k < (1 if self.tail else 2):
            raise ValueError(f"top_k: {self.top_k} leaves no distribution to compare")

    @abstractmethod
    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """How far the student's q is from the teacher's p, [N], of log-probabilities [N, C]."""

    def distance(self, student: Tensor, teacher: Tensor, labels: Tensor | None, values: LossValues) -> Tensor:
        log_q, log_p = soften(student, teacher, values["temperature"], self.top_k, self.tail)
        return values["temperature"] ** self.power * self.divergence(log_p, log_q)


@dataclass(kw_only=True, eq=False)
class Logits(Divergence):
    """KL(p_T, p_S), forward: the student covers all that the teacher holds possible (Hinton, Vinyals, Dean 2015,
    arXiv 1503.02531).
    """

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return kl(log_p, log_q)


@dataclass(kw_only=True, eq=False)
class ReverseKL(Divergence):
    """KL(p_S, p_T): the student keeps to what the teacher holds likely (Gu et al. 2023, arXiv 2306.08543)."""

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return kl(log_q, log_p)


@dataclass(kw_only=True, eq=False)
class JensenShannon(Divergence):
    """``beta KL(p_T, m) + (1 - beta) KL(p_S, m)``, m = beta p_T + (1 - beta) p_S (GKD, Agarwal et al. 2023, arXiv
    2306.13649).

    Args:
        beta: from forward (near 0) to reverse (near 1).
    """

    beta: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.beta < 1:
            raise ValueError(f"beta: must lie between 0 and 1, not {self.beta}; at the ends use Logits or ReverseKL")

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return jensen_shannon(log_p, log_q, self.beta)


@dataclass(kw_only=True, eq=False)
class _Skew(Divergence):
    alpha: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha: must lie in [0, 1), not {self.alpha}")


@dataclass(kw_only=True, eq=False)
class SkewKL(_Skew):
    """``KL(p_T, alpha p_T + (1 - alpha) p_S)``: bounded where the student gives no chance (DistiLLM, Ko et al. 2024,
    arXiv 2402.03898).

    Args:
        alpha: the teacher's share of the mixture.
    """

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return skew_kl(log_p, log_q, self.alpha)


@dataclass(kw_only=True, eq=False)
class SkewReverseKL(_Skew):
    """``KL(p_S, (1 - alpha) p_T + alpha p_S)``: reverse, and bounded (DistiLLM, Ko et al. 2024, arXiv 2402.03898).

    Args:
        alpha: the student's share of the mixture.
    """

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return skew_kl(log_q, log_p, self.alpha)


@dataclass(kw_only=True, eq=False)
class TotalVariation(Divergence):
    """``1/2 sum |p_T - p_S|``: bounded, and indifferent to how unlikely the unlikely is (f-distill, Wen et al. 2023,
    arXiv 2307.15190).
    """

    power = 1

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return total_variation(log_p, log_q)
