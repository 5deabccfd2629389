"""The loss on the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from losses.loss import LossValues, PerPrediction, label_mask
from students.recording.batch import Batch
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the cross entropy [N] of logits [N, C] and classes [N]; for real labels and C = 1 the squared error."""
    if labels.is_floating_point():
        return (logits.float().squeeze(-1) - labels.float()) ** 2
    return F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)


@dataclass(kw_only=True, eq=False)
class Labels(PerPrediction):
    """Cross entropy with the labels of the data, or squared error for regression.

    Args:
        smoothing: label smoothing, the probability spread evenly over the classes (Szegedy et al. 2016, arXiv
            1512.00567).
    """

    smoothing: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing: must lie in [0, 1), not {self.smoothing}")

    @property
    def uses_all_classes(self) -> bool:
        """Whether the target includes all classes, by label smoothing."""
        return self.smoothing > 0

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the student's logits.

        Raises:
            ValueError: if ``smoothing`` is set for a single output.
        """
        if self.smoothing and student.num_labels == 1:
            raise ValueError("smoothing: a single output has no classes to spread a target over")
        self.student_signals = Signals(logits=True)

    def count(self, batch: Batch) -> Tensor:
        """Return the number of predictions with a label."""
        return label_mask(batch).sum()

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the predictions with a label, and their number."""
        mask = label_mask(batch)
        return label_loss(student.logits[mask], batch["labels"][mask], self.smoothing).sum(), mask.sum()
