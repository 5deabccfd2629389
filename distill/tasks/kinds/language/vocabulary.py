"""The base class of tasks that predict tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor

from distill.tasks.data_task import DataTask
from losses.loss import prediction_mask

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


@dataclass(kw_only=True)
class VocabularyTask(DataTask):
    """A task that predicts tokens.

    Args:
        metric: by which the best checkpoint is chosen; a lower perplexity is better.
    """

    predicts_tokens: ClassVar[bool] = True

    metric: str = "perplexity"

    @property
    def main_metric(self) -> str:
        """The config's ``metric``."""
        return self.metric

    @property
    def metric_mode(self) -> Literal["max", "min"]:
        return "min" if self.metric == "perplexity" else "max"

    def metrics(self) -> MetricCollection:
        """Return perplexity and the accuracy over tokens."""
        # Imported here: torchmetrics takes seconds, and reading a config does not need it.
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        from distill.tasks.metrics.predictions import Perplexity

        accuracy = MulticlassAccuracy(len(self.tokenizer), average="micro")
        return MetricCollection({"perplexity": Perplexity(), "accuracy": accuracy})

    def select_logits(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the logits of the tokenizer's tokens; a model's vocabulary may be padded to a round size."""
        return logits[..., : len(self.tokenizer)]

    def update_metrics(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        mask = prediction_mask(batch)
        if mask.any():  # a short text may have no masked token, and torchmetrics' accuracy refuses empty input
            for name in ("perplexity", "accuracy"):
                metrics[name].update(logits[mask].float(), batch["labels"][mask])

    def answer(self, logits: Tensor, row: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Return the ``text`` that the model has written."""
        return {"text": self.tokenizer.decode(logits, skip_special_tokens=True)}
