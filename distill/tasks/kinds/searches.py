"""Search: a text encoder judged by what is found for a query among all passages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from distill.tasks.columns import bad_relevance, values_of
from distill.tasks.kinds.embedding import VectorTask

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import PreTrainedTokenizerBase

NUMBERS = ("query_number", "passage_number")
"""The columns that tell which rows have the same query and the same passage."""


@dataclass(kw_only=True)
class Search(VectorTask):
    """A vector for each query and passage, learnt from a teacher's; judged by what the cosines find.

    Each query of the validation rows is searched for among all of their passages. A row is a query and a passage, which
    is relevant to it unless a label says that it is not.

    Args:
        label: the column of the relevance of a passage, a number of at least 0; without such a column all are relevant.
        metric: by which the best checkpoint is chosen, of the ten nearest passages.
    """

    metric: Literal["ndcg_10", "recall_10", "mrr_10"] = "ndcg_10"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.has_labels = True
        """Whether the data says of each pair how relevant the passage is, known after ``setup``."""

    @property
    def label_columns(self) -> list[str]:
        return [self.label] if self.has_labels else []

    @property
    def added_columns(self) -> tuple[str, ...]:
        return NUMBERS

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        self.has_labels = self.label in table.column_names
        super().setup(table, tokenizer)

    def bad_targets(self, table: Dataset) -> Iterator[tuple[int, str]]:
        bad = list(super().bad_targets(table)) if self.has_labels else []
        yield from bad
        if self.has_labels and not bad:
            yield from bad_relevance(table, self.label)

    def mark_documents(self, table: Dataset) -> Dataset:
        """Return the rows with the numbers of their query and passage; a text has one number."""
        for name, column in zip(NUMBERS, self.texts, strict=True):
            if column in table.column_names:
                numbers: dict[Any, int] = {}
                table = table.add_column(name, [numbers.setdefault(v, len(numbers)) for v in values_of(table, column)])
        return table

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoding = super().encode(rows)
        if self.texts[1] not in rows:
            return encoding
        labels = encoding["labels"] if self.has_labels else [1.0] * len(encoding["labels"])
        return encoding | {"labels": labels} | {name: rows[name] for name in NUMBERS}

    def label_text(self, row: dict[str, Any]) -> str:
        return super().label_text(row) if self.has_labels else "relevant"

    @property
    def main_metric(self) -> str:
        """The config's ``metric``."""
        return self.metric

    def training_metrics(self) -> MetricCollection:
        """Return the main metric: each ranks all passages anew."""
        from torchmetrics import MetricCollection  # not above: it takes seconds

        return MetricCollection({self.metric: self.metrics()[self.metric]}, compute_groups=False)

    def metrics(self) -> MetricCollection:
        """Return nDCG, recall and MRR of the ten nearest passages of each query."""
        from torchmetrics import MetricCollection  # not above: it takes seconds

        from distill.tasks.metrics.retrieval import ndcg, recall, reciprocal_rank
        from distill.tasks.metrics.search import SearchMetric

        functions = {"ndcg_10": ndcg, "recall_10": recall, "mrr_10": reciprocal_rank}
        return MetricCollection({name: SearchMetric(f) for name, f in functions.items()}, compute_groups=False)

    def update_metrics(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        metrics.update(logits, torch.stack([*(batch[name].double() for name in NUMBERS), batch["labels"].double()], 1))
