"""What the tasks share whose outputs are the tokens of a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from distill.tasks.task import DataTask
from losses.loss import predicted


@dataclass(kw_only=True)
class VocabularyTask(DataTask):
    """A task that predicts tokens.

    Args:
        metric: by which the best state is chosen; a lower perplexity is better.
    """

    predicts_tokens: ClassVar[bool] = True

    metric: Literal["perplexity", "accuracy"] = "perplexity"

    @property
    def main_metric(self) -> str:
        """``metric``."""
        return self.metric

    @property
    def better(self) -> Literal["max", "min"]:
        return "min" if self.metric == "perplexity" else "max"

    def metrics(self) -> MetricCollection:
        """Perplexity, and the share of right tokens."""
        right = MulticlassAccuracy(len(self.tokenizer), average="micro")
        return MetricCollection({"perplexity": Perplexity(), "accuracy": right})

    def select(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The outputs that are tokens: a vocabulary may be padded to a round size."""
        return logits[..., : len(self.tokenizer)]

    def judge(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        asked = predicted(batch)
        if asked.any():  # of a short text perhaps nothing was hidden, and torchmetrics' accuracy does not bear that
            for name in ("perplexity", "accuracy"):
                metrics[name].update(logits[asked].float(), batch["labels"][asked])


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
