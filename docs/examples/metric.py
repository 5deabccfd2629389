"""A metric belongs to a task: the task creates its metrics, and names the main one, which chooses the best state."""

from dataclasses import dataclass
from typing import Literal

from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassRecall

from distill import Classification


@dataclass(kw_only=True)
class BalancedClassification(Classification):
    """Classification with a further metric, balanced accuracy: the mean recall of the classes."""

    metric: Literal["balanced", "accuracy", "f1", "matthews"] = "balanced"

    def metrics(self) -> MetricCollection:
        metrics = super().metrics()
        metrics.add_metrics({"balanced": MulticlassRecall(len(self.classes.names), average="macro")})
        return metrics
