"""A metric belongs to a task: the task makes its metrics, and says by which the best state is chosen."""

from dataclasses import dataclass
from typing import Literal

from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassRecall

from distill import Classification


@dataclass(kw_only=True)
class BalancedClassification(Classification):
    """Classification that is also judged by the mean recall of the classes, balanced accuracy."""

    metric: Literal["balanced", "accuracy", "f1", "matthews"] = "balanced"

    def metrics(self) -> MetricCollection:
        metrics = super().metrics()
        metrics.add_metrics({"balanced": MulticlassRecall(len(self.classes.names), average="macro")})
        return metrics
