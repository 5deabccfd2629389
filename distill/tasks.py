"""What a run is for: which columns are read, what the head puts out, and how it is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassMatthewsCorrCoef
from torchmetrics.regression import PearsonCorrCoef, SpearmanCorrCoef

from distill.augment import Augmentation


@dataclass(kw_only=True)
class Task(ABC):
    """A task on texts or pairs of texts.

    Args:
        data: a hub name (``nyu-mll/glue/sst2``), a folder with train and validation files, or one file
            (parquet, csv, tsv, json, jsonl, arrow), of which a tenth is kept for validation.
        text: the column of the text, or the two columns of a pair; if not given, the columns of texts in their order.
        label: the column of the label.
        max_length: tokens beyond it are cut off.
        batch_size: examples in a batch of one process.
        train_rows: use only the first so many training rows after a fixed shuffle.
        augment: one augmentation of the training rows, or several by name, applied in their order.
    """

    selector: ClassVar[str] = "name"
    problem: ClassVar[str]
    """What transformers calls the ``problem_type``."""

    data: str
    text: str | list[str] | None = None
    label: str = "label"
    max_length: int = 128
    batch_size: int = 32
    train_rows: int | None = None
    augment: Augmentation | dict[str, Augmentation] | None = None

    def __post_init__(self):
        for name in ("max_length", "batch_size", "train_rows"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, not {getattr(self, name)}")
        if isinstance(self.text, list) and not 1 <= len(self.text) <= 2:
            raise ValueError(f"text: one column or two, not {len(self.text)}")

    def augmentations(self) -> list[Augmentation]:
        """The augmentations in their order."""
        return list(self.augment.values()) if isinstance(self.augment, dict) else [self.augment] * bool(self.augment)

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """The metric by which the best state is chosen and what was retained is told."""

    @abstractmethod
    def metrics(self, labels: int) -> MetricCollection:
        """The metrics of a model with so many outputs; higher is better in each."""

    @abstractmethod
    def predictions(self, logits: Tensor) -> Tensor:
        """What the metrics compare with the labels, [B], from logits [B, C]."""


@dataclass(kw_only=True)
class Classification(Task):
    """One class for each text or pair of texts.

    Args:
        metric: by which the best state is chosen.
    """

    problem: ClassVar[str] = "single_label_classification"

    metric: Literal["accuracy", "f1", "matthews"] = "accuracy"

    @property
    def main_metric(self) -> str:
        """``metric``."""
        return self.metric

    def metrics(self, labels: int) -> MetricCollection:
        """Accuracy, F1 (of class 1 if there are two classes, else the mean over the classes), Matthews correlation."""
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(labels, average="micro"),
                "f1": _F1OfClassOne(labels, average="none")
                if labels == 2
                else MulticlassF1Score(labels, average="macro"),
                "matthews": _Matthews(labels),
            }
        )

    def predictions(self, logits: Tensor) -> Tensor:
        """The likeliest class."""
        return logits.argmax(-1)


class _F1OfClassOne(MulticlassF1Score):
    """F1 of class 1, as GLUE gives it, also where predictions are classes."""

    def compute(self) -> Tensor:
        return super().compute()[1]


class _Matthews(MulticlassMatthewsCorrCoef):
    """Matthews' correlation (Gorodkin 2004, eq. 8); 0, not torchmetrics' more, for a model that says one class."""

    def compute(self) -> Tensor:
        counts = self.confmat.cpu().double()  # not every accelerator has float64
        true, guessed, rows = counts.sum(1), counts.sum(0), counts.sum()
        spread = (rows**2 - true.square().sum()) * (rows**2 - guessed.square().sum())
        found = (counts.trace() * rows - true @ guessed) / spread.clamp(min=1).sqrt()
        return found.to(self.confmat.device, torch.float32)


@dataclass(kw_only=True)
class Regression(Task):
    """One real number for each text or pair of texts.

    Args:
        metric: by which the best state is chosen.
    """

    problem: ClassVar[str] = "regression"

    metric: Literal["pearson", "spearman"] = "spearman"

    @property
    def main_metric(self) -> str:
        """``metric``."""
        return self.metric

    def metrics(self, labels: int) -> MetricCollection:
        """Pearson and Spearman correlation."""
        return MetricCollection({"pearson": PearsonCorrCoef(), "spearman": SpearmanCorrCoef()})

    def predictions(self, logits: Tensor) -> Tensor:
        """The number itself."""
        return logits.squeeze(-1).to(torch.float32)
