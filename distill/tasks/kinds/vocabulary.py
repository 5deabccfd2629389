"""What the tasks share whose outputs are the tokens of a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor

from distill.tasks.task import DataTask
from losses.loss import prediction_mask

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


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
        # Not above: torchmetrics takes seconds, and a config is read without it.
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        from distill.tasks.metrics import Perplexity

        right = MulticlassAccuracy(len(self.tokenizer), average="micro")
        return MetricCollection({"perplexity": Perplexity(), "accuracy": right})

    def select(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The outputs that are tokens: a vocabulary may be padded to a round size."""
        return logits[..., : len(self.tokenizer)]

    def judge(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        asked = prediction_mask(batch)
        if asked.any():  # of a short text perhaps nothing was hidden, and torchmetrics' accuracy does not bear that
            for name in ("perplexity", "accuracy"):
                metrics[name].update(logits[asked].float(), batch["labels"][asked])
