"""A metric belongs to a task, which creates its metrics and names the one that chooses the best checkpoint."""

from dataclasses import dataclass
from typing import Literal

from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassRecall

from distill import Classification


@dataclass(kw_only=True)
class BalancedClassification(Classification):
    """Classification with balanced accuracy, the mean recall of the classes, as a metric."""

    # The choices are more than those of the base class, which a type checker does not like.
    metric: Literal["balanced", "accuracy", "f1", "matthews"] = "balanced"  # type: ignore[assignment]

    def metrics(self) -> MetricCollection:
        metrics = super().metrics()
        metrics.add_metrics({"balanced": MulticlassRecall(len(self.classes.names), average="macro")})
        return metrics
