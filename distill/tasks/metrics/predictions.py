"""Metrics that torchmetrics lacks or computes differently."""

from __future__ import annotations

from collections import Counter

import torch
import torch.nn.functional as F
from nervaluate.utils import collect_named_entities
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassF1Score
from torchmetrics.functional.regression import pearson_corrcoef
from torchmetrics.regression import SpearmanCorrCoef
from torchmetrics.text import SQuAD
from torchmetrics.utilities.data import dim_zero_cat

from students.recording.sparse_lm_head import IGNORED


class F1OfClassOne(MulticlassF1Score):
    """F1 of class 1, as in GLUE; unlike torchmetrics' binary F1 it takes class predictions."""

    def compute(self) -> Tensor:
        return super().compute()[1]


class Matthews(Metric):
    """Matthews correlation (Gorodkin 2004, eq. 8); unlike in torchmetrics, it is 0 if all predictions are one class.

    It needs the marginal counts of the confusion matrix only, which stay small with many classes.

    Args:
        classes: the number of classes.
    """

    higher_is_better = True

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes
        self.add_state("correct", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        for count in ("true", "predicted"):
            self.add_state(count, torch.zeros(classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, actual: Tensor) -> None:
        """Add predicted and true classes, [N] each."""
        self.correct += (predicted == actual).sum()
        self.true += actual.bincount(minlength=self.classes)
        self.predicted += predicted.bincount(minlength=self.classes)

    def compute(self) -> Tensor:
        # On the CPU, as not every accelerator has float64.
        correct, true, predicted = (count.cpu().double() for count in (self.correct, self.true, self.predicted))
        rows = true.sum()
        spread = (rows**2 - true.square().sum()) * (rows**2 - predicted.square().sum())
        correlation = (correct * rows - true @ predicted) / spread.clamp(min=1).sqrt()
        return correlation.to(self.correct.device, torch.float32)


class Pearson(SpearmanCorrCoef):
    """Pearson correlation, of the values of all rows; that of torchmetrics keeps moments, which do not add up."""

    def compute(self) -> Tensor:
        return pearson_corrcoef(dim_zero_cat(self.preds), dim_zero_cat(self.target))


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

    def __init__(self) -> None:
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
