"""Metrics that torchmetrics does not have, or counts otherwise."""

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
    """F1 of class 1, as GLUE gives it, also where predictions are classes."""

    def compute(self) -> Tensor:
        return super().compute()[1]


class Matthews(MulticlassMatthewsCorrCoef):
    """Matthews' correlation (Gorodkin 2004, eq. 8); 0, not torchmetrics' more, for a model that says one class."""

    def compute(self) -> Tensor:
        counts = self.confmat.cpu().double()  # not every accelerator has float64
        true, guessed, rows = counts.sum(1), counts.sum(0), counts.sum()
        spread = (rows**2 - true.square().sum()) * (rows**2 - guessed.square().sum())
        found = (counts.trace() * rows - true @ guessed) / spread.clamp(min=1).sqrt()
        return found.to(self.confmat.device, torch.float32)


class EntityF1(Metric):
    """F1 of whole entities, those whose class, begin and end are all right, as CoNLL and seqeval count them.

    Args:
        names: of the tags, B-..., I-... and O. An I- that follows no entity of its class begins one.
    """

    higher_is_better = True

    def __init__(self, names: list[str]):
        super().__init__()
        self.names = names
        for count in ("right", "said", "true"):
            self.add_state(count, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, said: Tensor, true: Tensor) -> None:
        """Adds texts: tags [B, S] each; where the true tag is -100 there is no word."""
        for mine, wanted in zip(said.tolist(), true.tolist(), strict=True):
            words = [i for i, tag in enumerate(wanted) if tag != IGNORED]
            found, real = (self._entities([tags[i] for i in words]) for tags in (mine, wanted))
            self.right += (found & real).total()
            self.said += found.total()
            self.true += real.total()

    def compute(self) -> Tensor:
        """2 right / (said + true); 0 if there are no entities."""
        return 2 * self.right / (self.said + self.true).clamp(min=1)

    def _entities(self, tags: list[int]) -> Counter:
        return Counter(tuple(entity.values()) for entity in collect_named_entities([self.names[tag] for tag in tags]))


class SquadShare(SQuAD):
    """One of the two, as a share."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def compute(self) -> Tensor:
        return super().compute()[self.name] / 100


class Perplexity(MeanMetric):
    """e to the mean cross entropy of tokens [N], of logits [N, V]; torchmetrics' own is infinite where a probability is
    too small for float32.
    """

    higher_is_better = False

    def __init__(self):
        # The parent's own choice leaves out what is no number: a model that diverges would seem better.
        super().__init__(nan_strategy="disable")

    def update(self, logits: Tensor, tokens: Tensor) -> None:
        """Adds tokens."""
        super().update(F.cross_entropy(logits, tokens, reduction="none"))

    def compute(self) -> Tensor:
        """Of all tokens so far."""
        return super().compute().exp()


class MeanOfMetrics(Metric):
    """Of what other metrics have found."""

    higher_is_better = True

    def __init__(self, metrics: list[Metric]):
        super().__init__()
        self.metrics = metrics

    def update(self) -> None:
        """Nothing: the others are updated."""

    def compute(self) -> Tensor:
        return torch.stack([metric.compute().float() for metric in self.metrics]).mean()
