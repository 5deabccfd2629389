"""Metrics that torchmetrics lacks or computes differently."""

from __future__ import annotations

from collections import Counter

import torch
import torch.nn.functional as F
from nervaluate.utils import collect_named_entities
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassF1Score, MulticlassMatthewsCorrCoef
from torchmetrics.text import SQuAD

from students.recording.sparse_lm_head import IGNORED


class F1OfClassOne(MulticlassF1Score):
    """F1 of class 1, as in GLUE; unlike torchmetrics' binary F1 it takes class predictions."""

    def compute(self) -> Tensor:
        return super().compute()[1]


class Matthews(MulticlassMatthewsCorrCoef):
    """Matthews correlation (Gorodkin 2004, eq. 8); unlike in torchmetrics, it is 0 if all predictions are one class."""

    def compute(self) -> Tensor:
        counts = self.confmat.cpu().double()  # not every accelerator has float64
        true, predicted, rows = counts.sum(1), counts.sum(0), counts.sum()
        spread = (rows**2 - true.square().sum()) * (rows**2 - predicted.square().sum())
        correlation = (counts.trace() * rows - true @ predicted) / spread.clamp(min=1).sqrt()
        return correlation.to(self.confmat.device, torch.float32)


class EntityF1(Metric):
    """F1 of whole entities, whose class, begin and end are right, as CoNLL and seqeval count them.

    Args:
        names: of the tags, B-..., I-... and O. An I- after no entity of its class begins one.
    """

    higher_is_better = True

    def __init__(self, names: list[str]):
        super().__init__()
        self.names = names
        for count in ("correct", "predicted", "actual"):
            self.add_state(count, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, actual: Tensor) -> None:
        """Add a batch of tags [B, S]; positions whose true tag is -100 are ignored."""
        for predicted_tags, actual_tags in zip(predicted.tolist(), actual.tolist(), strict=True):
            words = [i for i, tag in enumerate(actual_tags) if tag != IGNORED]
            entities, actual_entities = (
                self._entities([tags[i] for i in words]) for tags in (predicted_tags, actual_tags)
            )
            self.correct += (entities & actual_entities).total()
            self.predicted += entities.total()
            self.actual += actual_entities.total()

    def compute(self) -> Tensor:
        """Return 2 correct / (predicted + actual); 0 if there are no entities."""
        return 2 * self.correct / (self.predicted + self.actual).clamp(min=1)

    def _entities(self, tags: list[int]) -> Counter:
        return Counter(tuple(entity.values()) for entity in collect_named_entities([self.names[tag] for tag in tags]))


class SquadShare(SQuAD):
    """Exact match or F1 of SQuAD, from 0 to 1."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def compute(self) -> Tensor:
        return super().compute()[self.name] / 100


class Perplexity(MeanMetric):
    """e to the mean cross entropy of tokens [N], of logits [N, V].

    The perplexity of torchmetrics is infinite if a probability underflows in float32.
    """

    higher_is_better = False

    def __init__(self):
        # The parent's default ignores NaN: a model that diverges would seem better.
        super().__init__(nan_strategy="disable")

    def update(self, logits: Tensor, tokens: Tensor) -> None:
        """Add tokens."""
        super().update(F.cross_entropy(logits, tokens, reduction="none"))

    def compute(self) -> Tensor:
        """Return the perplexity of all tokens so far."""
        return super().compute().exp()


class MeanOfMetrics(Metric):
    """The mean of other metrics."""

    higher_is_better = True

    def __init__(self, metrics: list[Metric]):
        super().__init__()
        self.metrics = metrics

    def update(self) -> None:
        """Do nothing: the other metrics are updated themselves."""

    def compute(self) -> Tensor:
        return torch.stack([metric.compute().float() for metric in self.metrics]).mean()
