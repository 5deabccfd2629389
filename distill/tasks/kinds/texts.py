"""Tasks on whole texts or pairs of texts: one class for each, or one number."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from distill.tasks.classes import Classes, kind_of
from distill.tasks.columns import bad_labels, bad_texts, listed, named, room_for, text_columns, values_of
from distill.tasks.task import DataTask
from losses.loss import UNLABELED

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import PreTrainedTokenizerBase


@dataclass(kw_only=True)
class TextTask(DataTask):
    """What the tasks on texts share.

    Args:
        text: the column of the text, or the two columns of a pair; if not given, the only column of texts, or the two
            whose names are those of a pair (``sentence1`` and ``sentence2``, ``premise`` and ``hypothesis``).
        label: the column of the label.
        unlabelled: more texts to train on, named as ``data`` is, with the same columns; the teacher judges them.
    """

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    unknown: ClassVar[int | float] = UNLABELED
    """The label of a text that has none."""

    text: str | list[str] | None = None
    label: str = "label"
    unlabelled: str | None = None

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.text, list) and not 1 <= len(self.text) <= 2:
            raise ValueError(f"text: one column or two, not {len(self.text)}")

    @property
    def needs_teacher(self) -> bool:
        """Whether there are texts of which only a teacher knows anything."""
        return self.unlabelled is not None

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        self.texts = text_columns(table, self.text, self.label, most=2)
        named(table, "label", [self.label])
        room_for(tokenizer, self.max_length, pair=len(self.texts) == 2)

    @property
    def columns(self) -> list[str]:
        return [*self.texts, self.label]

    def bad_types(self, table: Dataset) -> Iterator[tuple[int, str]]:
        yield from bad_labels(table, self.label, numbers=self.problem == "regression")

    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        yield from bad_texts(table, self.texts)
        labels = list(values_of(table, self.label))
        missing = [row for row, label in enumerate(labels, 1) if label in (None, "") or label != label]
        yield from ((row, f"{self.label!r} is missing") for row in missing)
        # A gap makes real numbers of a column of classes; then the other rows are not at fault.
        for row, label in enumerate([] if missing else labels, 1):
            if wrong := self.wrong(label):
                yield row, f"{self.label!r} is {label!r}{wrong}"

    @abstractmethod
    def wrong(self, label: object) -> str:
        """What is wrong with a label, to be said after it; nothing if it is right."""

    @abstractmethod
    def number(self, label: int | float | str) -> int | float:
        """What the head is to say for a label of the data."""

    def encode(self, rows: dict[str, list]) -> dict[str, list]:
        texts = (rows[column] for column in self.texts)
        found = self.tokenizer(*texts, truncation=True, max_length=self.max_length)
        count = len(rows[self.texts[0]])
        labels = [self.number(label) for label in rows[self.label]] if self.label in rows else [self.unknown] * count
        return dict(found) | {"labels": labels}

    def shown(self, row: dict) -> str:
        return " · ".join(str(row[column]) for column in self.texts)


@dataclass(kw_only=True)
class Classification(TextTask):
    """One class for each text or pair of texts.

    Args:
        labels: the class of each value of the label, {value: name or number of an output}, where names do not say it;
            several values may have one class, and a model more classes than the data.
        metric: by which the best state is chosen.
    """

    problem: ClassVar[str] = "single_label_classification"

    labels: dict[str, str] = field(default_factory=dict)
    metric: Literal["accuracy", "f1", "matthews"] = "accuracy"

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        self.classes = Classes.of(table.features[self.label], table[self.label], self.labels)

    def kind(self, table: Dataset) -> object:
        return kind_of(table.features[self.label])

    def wrong(self, label: object) -> str:
        return self.classes.wrong(label)

    def number(self, label: int | str) -> int:
        return self.classes.number(label)

    @property
    def main_metric(self) -> str:
        """``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """Accuracy, F1 (of class 1 if there are two classes, else the mean over the classes), Matthews correlation."""
        # Not above: torchmetrics takes seconds, and a config is read without it.
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

        from distill.tasks.metrics import F1OfClassOne, Matthews

        count = len(self.classes.names)
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(count, average="micro"),
                "f1": F1OfClassOne(count, average="none") if count == 2 else MulticlassF1Score(count, average="macro"),
                "matthews": Matthews(count),
            }
        )

    def words(self, prediction: Tensor, row: dict) -> str:
        return self.classes.names[prediction]

    def truth(self, row: dict) -> str:
        return self.classes.names[self.number(row[self.label])]


@dataclass(kw_only=True)
class Regression(TextTask):
    """One real number for each text or pair of texts.

    Args:
        metric: by which the best state is chosen.
    """

    problem: ClassVar[str] = "regression"
    unknown: ClassVar[float] = math.nan

    metric: Literal["pearson", "spearman"] = "spearman"

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        self.classes = Classes([""])

    def head_order(self, head: list[str]) -> list[int]:
        if len(head) != 1:
            raise ValueError(f"it has {len(head)} outputs ({listed(head)}), and a regression has one, a number")
        return [0]

    def wrong(self, label: object) -> str:
        try:
            return "" if math.isfinite(float(label)) else ", not a number"
        except (TypeError, ValueError):
            return ", not a number"

    def number(self, label: int | float | str) -> float:
        return float(label)

    @property
    def main_metric(self) -> str:
        """``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """Pearson and Spearman correlation."""
        from torchmetrics import MetricCollection
        from torchmetrics.regression import PearsonCorrCoef, SpearmanCorrCoef

        return MetricCollection({"pearson": PearsonCorrCoef(), "spearman": SpearmanCorrCoef()})

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The number itself."""
        return logits.squeeze(-1).to(torch.float32)

    def certainty(self, logits: Tensor, batch: dict[str, Tensor]) -> None:
        return None

    def words(self, prediction: Tensor, row: dict) -> str:
        return f"{float(prediction):.2f}"

    def truth(self, row: dict) -> str:
        return f"{float(row[self.label]):g}"  # a float32 from Parquet has more digits than were written
