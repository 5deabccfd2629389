"""Tasks on texts or pairs of texts: classification and regression."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, SupportsFloat

import torch
from torch import Tensor

from distill.tasks.classes import Classes, label_kind_of
from distill.tasks.columns import bad_labels, list_names, values_of
from distill.tasks.kinds.text_task import TextTask
from distill.tasks.soft_labels import KEY
from losses.loss import UNLABELED

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import PreTrainedTokenizerBase


@dataclass(kw_only=True)
class SingleLabelTask(TextTask):
    """The base class of tasks on whole texts that have one label each.

    Args:
        label: the column of the label.
    """

    accepts_soft_labels: ClassVar[bool] = True
    """Whether the teacher's outputs may be columns of the data."""

    label: str = "label"

    @property
    def label_columns(self) -> list[str]:
        return [self.label]

    @property
    def missing_target(self) -> int | float:
        return UNLABELED

    def bad_types(self, table: Dataset) -> Iterator[tuple[int, str]]:
        yield from bad_labels(table, self.label, numbers=False)

    def bad_targets(self, table: Dataset) -> Iterator[tuple[int, str]]:
        labels = list(values_of(table, self.label))
        missing = [row for row, label in enumerate(labels, 1) if label in (None, "") or label != label]
        yield from ((row, f"{self.label!r} is missing") for row in missing)
        # A missing value turns a column of integer classes into floats; then the other rows are valid.
        for row, label in enumerate([] if missing else labels, 1):
            if error := self.label_error(label):
                yield row, f"{self.label!r} is {label!r}{error}"
        if self.soft_labels and self.classes:
            yield from self.soft_labels.bad_rows(table, self.classes)

    @abstractmethod
    def label_error(self, label: object) -> str:
        """Return the error of a label, as the end of a message; empty if it is valid."""

    @abstractmethod
    def label_id(self, label: int | float | str) -> int | float:
        """Return the target of the head for a label of the data."""

    def targets(self, rows: dict[str, list[Any]]) -> list[int | float]:
        return [self.label_id(label) for label in rows[self.label]]

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoding = super().encode(rows)
        if self.soft_labels and self.classes and self.soft_labels.names[0] in rows:
            encoding[KEY] = self.soft_labels.logits(rows, self.classes)
        if KEY in rows:  # judged
            encoding[KEY] = rows[KEY]
        return encoding


@dataclass(kw_only=True)
class Classification(SingleLabelTask):
    """A class for each text or pair of texts.

    Args:
        labels: the class of each label value, {value: name or number of an output}, if names do not determine it;
            several values can have the same class, and a model can have more classes than the data.
        metric: by which the best checkpoint is chosen.
    """

    problem: ClassVar[str] = "single_label_classification"

    labels: dict[str, str] = field(default_factory=dict)
    metric: Literal["accuracy", "f1", "matthews"] = "accuracy"

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        self.classes: Classes = Classes.from_column(table.features[self.label], table[self.label], self.labels)

    def label_kind(self, table: Dataset) -> object:
        return label_kind_of(table.features[self.label])

    def label_error(self, label: object) -> str:
        return self.classes.label_error(label)

    def label_id(self, label: int | float | str) -> int:
        return self.classes.label_id(label if isinstance(label, str) else int(label))

    @property
    def main_metric(self) -> str:
        """The config's ``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """Return accuracy, F1 (of class 1 if there are two classes, else macro-averaged) and Matthews correlation."""
        # Imported here: torchmetrics takes seconds, and reading a config does not need it.
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

        from distill.tasks.metrics.predictions import F1OfClassOne, Matthews

        count = len(self.classes.names)
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(count, average="micro"),
                "f1": F1OfClassOne(count, average="none") if count == 2 else MulticlassF1Score(count, average="macro"),
                "matthews": Matthews(count),
            }
        )

    def answer(self, logits: Tensor, row: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Return ``label``, its probability ``score``, and the probabilities ``scores`` of all classes."""
        scores = dict(zip(names, logits.float().softmax(-1).tolist(), strict=True))
        label = max(scores, key=scores.__getitem__)
        return {"label": label, "score": scores[label], "scores": scores}

    def prediction_text(self, prediction: Tensor, row: dict[str, Any]) -> str:
        return self.classes.names[prediction]

    def label_text(self, row: dict[str, Any]) -> str:
        return self.classes.names[self.label_id(row[self.label])]


@dataclass(kw_only=True)
class NumberLabelTask(SingleLabelTask):
    """The base class of tasks whose label is a number."""

    @property
    def missing_target(self) -> float:
        return math.nan

    def bad_types(self, table: Dataset) -> Iterator[tuple[int, str]]:
        yield from bad_labels(table, self.label, numbers=True)

    def label_error(self, label: object) -> str:
        try:
            is_number = isinstance(label, str | bytes | SupportsFloat) and math.isfinite(float(label))
            return "" if is_number else ", not a number"
        except (TypeError, ValueError):
            return ", not a number"

    def label_id(self, label: int | float | str) -> float:
        return float(label)

    def confidences(self, logits: Tensor, batch: dict[str, Tensor]) -> None:
        return None

    def label_text(self, row: dict[str, Any]) -> str:
        return f"{float(row[self.label]):g}"  # a float32 from Parquet has more digits than were written


@dataclass(kw_only=True)
class ScoreTask(NumberLabelTask):
    """The base class of tasks whose model gives one number of a text or pair."""

    problem: ClassVar[str] = "regression"

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        self.classes = Classes([""])

    def head_order(self, head: list[str]) -> list[int]:
        if len(head) != 1:
            raise ValueError(f"it has {len(head)} outputs ({list_names(head)}), and a regression has one, a number")
        return [0]

    def answer(self, logits: Tensor, row: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Return the number ``score``."""
        return {"score": float(logits[0])}


@dataclass(kw_only=True)
class Regression(ScoreTask):
    """A number for each text or pair of texts.

    Args:
        metric: by which the best checkpoint is chosen.
    """

    metric: Literal["pearson", "spearman"] = "spearman"

    @property
    def main_metric(self) -> str:
        """The config's ``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """Return Pearson and Spearman correlation."""
        return correlations()

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the predicted number of each row."""
        return logits.squeeze(-1).to(torch.float32)

    def prediction_text(self, prediction: Tensor, row: dict[str, Any]) -> str:
        return f"{float(prediction):.2f}"


def correlations() -> MetricCollection:
    """Return Pearson and Spearman correlation of predicted numbers and labels."""
    from torchmetrics import MetricCollection  # not above: it takes seconds
    from torchmetrics.regression import SpearmanCorrCoef

    from distill.tasks.metrics.predictions import Pearson

    return MetricCollection({"pearson": Pearson(), "spearman": SpearmanCorrCoef()}, compute_groups=False)
