"""Multi-label classification: any number of labels for each text or pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from distill.tasks.classes import Classes, label_kind_of
from distill.tasks.columns import first_value, is_label, is_list, is_text, values_of
from distill.tasks.kinds.text_task import TextTask
from distill.tasks.label_sets import Label, parse_indicator, parse_labels
from losses.loss import UNLABELED

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import PreTrainedTokenizerBase

    from distill.tasks.metrics.label_scores import F1AtThreshold

NO_LABELS = "no label"
"""The text of a row without labels."""
DEFAULT_THRESHOLD = 0.5
"""The probability from which a label holds where none is set or tuned."""


@dataclass(kw_only=True)
class MultiLabel(TextTask):
    """Any number of labels for each text or pair of texts, each a decision of its own.

    Args:
        label: the column of the labels, whose cells are lists of names or numbers (as JSON in a csv), or texts with a
            ``separator``; or several columns, one for each label, with 0, 1, true or false. A row may have no label:
            ``[]``, or an empty text.
        separator: what separates the labels of a text, as ``|``.
        labels: the output of each label, {label: name or number of an output}, if names do not determine it.
        threshold: the probability from which a label holds; by default the one with the best micro F1 on validation,
            for teacher and student each.
        metric: by which the best checkpoint is chosen.
    """

    problem: ClassVar[str] = "multi_label_classification"
    is_multi_label: ClassVar[bool] = True

    label: str | list[str] = "label"
    separator: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    threshold: float | None = None
    metric: Literal["f1_micro", "f1_macro", "mAP"] = "f1_micro"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.label, list):
            if len(set(self.label)) < max(2, len(self.label)):
                raise ValueError("label: name two different columns or more, or one whose cells list labels")
            if self.separator is not None:
                raise ValueError("separator: with a column for each label there is nothing to separate")
        if self.separator == "":
            raise ValueError("separator: must not be empty; quote it: '|'")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"threshold: must lie between 0 and 1, not {self.threshold}")

    @property
    def has_column_per_label(self) -> bool:
        """Whether each label has a column, instead of one that lists them."""
        return isinstance(self.label, list)

    @property
    def label_columns(self) -> list[str]:
        return self.label if isinstance(self.label, list) else [self.label]

    @property
    def missing_target(self) -> list[int]:
        return [UNLABELED] * len(self.classes.names)

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        if isinstance(self.label, list):
            self.classes: Classes = Classes.from_labels(self.labels, []) if self.labels else Classes(list(self.label))
            if missing := [name for name in self.label if name not in self.classes.outputs]:
                raise ValueError(f"labels: the column {missing[0]!r} is not named")
            return
        feature = table.features[self.label]
        labels: list[Label] = []
        has_bad_cells = False
        for cell in values_of(table, self.label):
            try:
                labels += parse_labels(cell, self.separator)
            except ValueError:
                has_bad_cells = True  # ``bad_targets`` reports them with their lines
        self.classes = Classes.from_column(getattr(feature, "feature", feature), labels, self.labels)
        if not self.classes.names and not has_bad_cells:
            raise ValueError(f"label: no training row has a label in the column {self.label!r}")

    def restore(self, tokenizer: PreTrainedTokenizerBase, columns: dict[str, str]) -> None:
        super().restore(tokenizer, columns)
        self.threshold = self.threshold or DEFAULT_THRESHOLD  # it is tuned in a run only

    def label_kind(self, table: Dataset) -> object:
        if self.has_column_per_label or not hasattr(table.features[self.label_columns[0]], "feature"):
            return "texts"
        return label_kind_of(table.features[self.label_columns[0]].feature)

    def bad_types(self, table: Dataset) -> Iterator[tuple[int, str]]:
        for column in self.label_columns:
            if column not in table.column_names:
                continue
            kind = table.data.schema.field(column).type
            if self.has_column_per_label or self.separator is not None:
                is_suitable = is_label(kind)
            else:
                is_suitable = is_text(kind) or (is_list(kind) and is_label(kind.value_type))
            expected = "a text to separate" if self.separator is not None else "a list of labels"
            for row, value, type_name in () if is_suitable else first_value(table, column):
                message = "0, 1, true or false" if self.has_column_per_label else expected
                yield row, f"{column!r} is {value}, {type_name}, not {message}"

    def bad_targets(self, table: Dataset) -> Iterator[tuple[int, str]]:
        for column in self.label_columns:
            for row, cell in enumerate(values_of(table, column), 1):
                if error := self._cell_error(cell):
                    yield row, f"{column!r}{error}"

    def _cell_error(self, cell: object) -> str:
        """Return the error of a cell, as the end of a message; empty if it is valid."""
        try:
            if self.has_column_per_label:
                parse_indicator(cell)
                return ""
            labels = parse_labels(cell, self.separator)
        except ValueError as error:
            return str(error)
        return next((f" has {label!r}{reason}" for label in labels if (reason := self.classes.label_error(label))), "")

    def targets(self, rows: dict[str, list[Any]]) -> list[list[int]]:
        """Return 0 or 1 for each label of each row."""
        return [self._target(cells) for cells in zip(*(rows[name] for name in self.label_columns), strict=True)]

    def _target(self, cells: Iterable[Any]) -> list[int]:
        if self.has_column_per_label:
            pairs = zip(self.label_columns, cells, strict=True)
            held: list[Label] = [name for name, cell in pairs if parse_indicator(cell)]
        else:
            held = list(chain.from_iterable(parse_labels(cell, self.separator) for cell in cells))
        outputs = {self.classes.label_id(label) for label in held}
        return [int(output in outputs) for output in range(len(self.classes.names))]

    def label_classes(self, labels: list[int]) -> list[int]:
        return [output for output, label in enumerate(labels) if label == 1]

    def select_logits(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return logits of not having and of having each label, [B, L, 2] from [B, L].

        They are 0 and z, whose softmax is 1 - sigmoid(z) and sigmoid(z): a cross entropy or KL of the two classes is
        that of the label's Bernoulli distribution.
        """
        return torch.stack([torch.zeros_like(logits), logits], -1)

    def expand_logits(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return logits[..., 1] - logits[..., 0]

    @property
    def decision_threshold(self) -> float | None:
        return self.threshold

    def at_threshold(self, threshold: float | None) -> MultiLabel:
        task = copy(self)
        task.threshold = threshold
        return task

    def best_threshold(self, logits: Iterable[Tensor], batches: Iterable[dict[str, Tensor]]) -> float:
        """Return the threshold with the best micro F1."""
        f1 = self._f1("micro")
        for outputs, batch in zip(logits, batches, strict=True):
            f1.update(self._scores(outputs), batch["labels"])
        return f1.best_threshold()

    def _scores(self, logits: Tensor) -> Tensor:
        """Return the probability of each label, [B, L], from selected logits [B, L, 2]."""
        return logits.float().softmax(-1)[..., 1]

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return for each row which labels hold, 0 or 1, [B, L]."""
        return (self._scores(logits) >= (self.threshold or DEFAULT_THRESHOLD)).long()

    def prediction_labels(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["labels"]

    def confidences(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the probability of each decision, [B, L]."""
        scores = self._scores(logits)
        return torch.where(self.predictions(logits, batch).bool(), scores, 1 - scores)

    @property
    def main_metric(self) -> str:
        """The config's ``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """Return micro and macro F1 at the threshold, or at the best one if it is not set, and mAP."""
        # Imported here: torchmetrics takes seconds, and reading a config does not need it.
        from torchmetrics import MetricCollection

        from distill.tasks.metrics.label_scores import MeanAveragePrecision

        f1 = {"f1_micro": self._f1("micro"), "f1_macro": self._f1("macro")}
        return MetricCollection({**f1, "mAP": MeanAveragePrecision()}, compute_groups=False)

    def _f1(self, average: Literal["micro", "macro"]) -> F1AtThreshold:
        from distill.tasks.metrics.label_scores import THRESHOLDS, F1AtThreshold

        thresholds = THRESHOLDS if self.threshold is None else [self.threshold]
        return F1AtThreshold(len(self.classes.names), average, thresholds)

    def update_metrics(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        metrics.update(self._scores(logits), batch["labels"])

    def answer(self, logits: Tensor, row: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Return the ``labels`` from the threshold on, and the probabilities ``scores`` of all."""
        scores = dict(zip(names, logits.float().sigmoid().tolist(), strict=True))
        threshold = self.threshold or DEFAULT_THRESHOLD
        return {"labels": [name for name, score in scores.items() if score >= threshold], "scores": scores}

    def prediction_text(self, prediction: Tensor, row: dict[str, Any]) -> str:
        return self._text(self.label_classes(prediction.tolist()))

    def label_text(self, row: dict[str, Any]) -> str:
        return self._text(self.label_classes(self._target([row[name] for name in self.label_columns])))

    def _text(self, classes: list[int]) -> str:
        return ", ".join(self.classes.names[output] for output in classes) or NO_LABELS
