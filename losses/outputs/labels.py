"""The loss on the labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.loss import LossValues, PerPrediction, is_regression, label_mask
from students.recording.batch import Batch
from students.recording.signals import Signals, Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0, focal: float = 0.0) -> Tensor:
    """Return the cross entropy [N] of logits [N, C] and classes [N]; for real labels and C = 1 the squared error.

    With ``focal`` it is ``(1 - p_y)^focal`` times the cross entropy ``-log p_y``.
    """
    if labels.is_floating_point():
        return (logits.float().squeeze(-1) - labels.float()) ** 2
    cross_entropy = F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)
    return focal_factor(logits, labels, focal) * cross_entropy if focal else cross_entropy


def focal_factor(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return ``(1 - p_y)^gamma``, [N], from logits [N, C] and classes [N]."""
    # The sum over the other classes: 1 - p would be 0 for a sure prediction, where its power has no gradient.
    target = F.one_hot(labels, logits.shape[-1]).bool()
    return (gamma * F.log_softmax(logits.float(), -1).masked_fill(target, -math.inf).logsumexp(-1)).exp()


def balanced_weights(counts: Tensor) -> Tensor:
    """Return the weight ``n / (k count_c)`` of each class, [..., C] from the numbers of rows [..., C].

    n is the sum of the counts and k the number of classes with rows, so the mean weight of a row is 1. A class without
    rows has the weight 1.
    """
    counts = counts.double()
    weights = counts.sum(-1, keepdim=True) / ((counts > 0).sum(-1, keepdim=True) * counts)
    return torch.where(counts > 0, weights, 1.0).float()


@dataclass(kw_only=True, eq=False)
class Labels(PerPrediction):
    """Cross entropy with the labels of the data, or squared error for regression.

    Where a row may have several labels, each of them is a prediction with two classes: binary cross entropy, the mean
    over labels and rows. The sum is divided by the number of predictions, not by the sum of their weights: the weight
    of a row then does not depend on which rows share its batch, nor on accumulation and ranks.

    Args:
        smoothing: label smoothing, the probability spread evenly over the classes (Szegedy et al. 2016, arXiv
            1512.00567).
        focal: the gamma of the focal loss ``-(1 - p)^gamma log p`` (Lin et al. 2017, arXiv 1708.02002).
        class_weights: the factor of the loss by class: ``balanced``, n / (k count) of the training rows, whose mean
            over these is 1; or {class: factor}, 1 for classes that are not named. Where a row may have several labels,
            ``balanced`` weighs having and not having a label, and a factor counts where the label holds.
    """

    smoothing: float = 0.0
    focal: float = 0.0
    class_weights: Literal["balanced"] | dict[str, float] | None = None

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing: must lie in [0, 1), not {self.smoothing}")
        if not 0 <= self.focal < math.inf:
            raise ValueError(f"focal: must be a number of at least 0, not {self.focal}")
        if self.focal and self.smoothing:
            raise ValueError("focal: is not defined for a smoothed target; leave smoothing out")
        for name, weight in self.class_weights.items() if isinstance(self.class_weights, dict) else ():
            if not 0 <= weight < math.inf:
                raise ValueError(f"class_weights: {name}: must be a number of at least 0, not {weight}")
        self.is_per_label = False
        self.register_buffer("weight_table", None, persistent=False)

    @property
    def uses_all_classes(self) -> bool:
        """Whether the target includes all classes, by label smoothing."""
        return self.smoothing > 0

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the student's logits.

        Raises:
            ValueError: if ``smoothing``, ``focal`` or ``class_weights`` is set for a single output.
        """
        if self.smoothing and student.num_labels == 1:
            raise ValueError("smoothing: a single output has no classes to spread a target over")
        for field in ("focal", "class_weights"):
            if getattr(self, field) and student.num_labels == 1:
                raise ValueError(f"{field}: a single output, a number, has no classes")
        self.is_per_label = student.problem_type == "multi_label_classification"
        self.student_signals = Signals(logits=True)

    def setup_classes(self, counts: Mapping[str, int], rows: int) -> None:
        """Compute the weight of each class.

        Raises:
            ValueError: if there are weights, and the task has no classes, or none of a name.
        """
        if not self.class_weights:
            return
        if not counts:
            raise ValueError("class_weights: needs a single task with classes")
        table = torch.tensor(list(counts.values()))
        if self.is_per_label:  # [L, 2]: not having and having each label
            table = torch.stack([rows - table, table], -1)
        if self.class_weights == "balanced":
            self.weight_table = balanced_weights(table)
            return
        names, weights = list(counts), torch.ones(table.shape)
        for name, weight in self.class_weights.items():
            if name not in counts:
                raise ValueError(f"class_weights: there is no class {name!r}; there are {', '.join(names)}")
            weights[names.index(name), ...] = weight
        if self.is_per_label:
            weights[:, 0] = 1.0
        self.weight_table = weights

    def count(self, batch: Batch) -> Tensor:
        """Return the number of predictions with a label."""
        return label_mask(batch).sum()

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the predictions with a label, and their number."""
        mask = label_mask(batch)
        loss = label_loss(student.logits[mask], batch["labels"][mask], self.smoothing, self.focal)
        if self.weight_table is not None and not is_regression(batch):
            loss = loss * self._weights(batch["labels"].clamp(min=0))[mask]
        return loss.sum(), mask.sum()

    def _weights(self, labels: Tensor) -> Tensor:
        """Return the weight of each label, in their shape."""
        table = self.weight_table.to(labels.device)
        return table[torch.arange(len(table), device=labels.device), labels] if self.is_per_label else table[labels]
