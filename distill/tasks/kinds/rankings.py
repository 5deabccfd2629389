"""Ranking: a score for each passage of a query, by a cross-encoder that reads both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from distill.tasks.columns import PAIRS, bad_relevance, values_of
from distill.tasks.kinds.texts import ScoreTask
from distill.tasks.soft_labels import KEY
from losses.loss import prediction_mask
from students.recording.model_io import MODEL_INPUTS
from students.recording.own_tokens import own_key

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import PreTrainedTokenizerBase

SIZES = "sizes"
"""Ends the name of the column with the number of tokens of each passage of a row."""


@dataclass(kw_only=True)
class Ranking(ScoreTask):
    """A score for each passage of a query; judged by where the relevant passages stand.

    A row of the data is a query and one passage. All passages of a query, which may stand anywhere in a file, make one
    example, so ``batch_size`` counts queries.

    Args:
        text: the columns of query and passage; by default two columns with the names of a pair (``query`` and
            ``passage``, ``question`` and ``context``).
        label: the column of the relevance, a number of at least 0; a passage above 0 is relevant.
        metric: by which the best checkpoint is chosen, of the ten passages with the best scores.
    """

    groups_passages: ClassVar[bool] = True
    pipeline: ClassVar[str] = "text-ranking"

    metric: Literal["ndcg_10", "mrr_10"] = "ndcg_10"
    batch_size: int = 8

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        if len(self.texts) != 2:
            raise ValueError(f"text: name the columns of query and passage, not {self.texts[0]!r} alone")
        if self.text is None and tuple(name.lower() for name in reversed(self.texts)) in PAIRS:
            self.texts = self.texts[::-1]  # the file has the passage first
        queries = list(values_of(table, self.texts[0]))
        if len(set(queries)) == len(queries):
            raise ValueError(
                f"text: no text of {self.texts[0]!r} has two rows, so no passages can be ranked; "
                "the rows of a query have the same text there"
            )

    def bad_targets(self, table: Dataset) -> Iterator[tuple[int, str]]:
        bad = list(super().bad_targets(table))
        yield from bad
        if bad:
            return
        yield from bad_relevance(table, self.label)
        if self.soft_labels and self.classes:
            yield from self.soft_labels.bad_rows(table, self.classes, "and a relevance is not a score")

    def mark_documents(self, table: Dataset) -> Dataset:
        """Return a row for each query, with the lists of its passages and of their labels, in the order of the file."""
        from datasets import Dataset  # not above: a config is read without datasets

        query, passage = self.texts
        columns = [name for name in (query, passage, self.label, *self.soft_columns) if name in table.column_names]
        groups: dict[str, dict[str, Any]] = {}
        for values in zip(*(values_of(table, name) for name in columns), strict=True):
            row = groups.setdefault(values[0], {query: values[0]} | {name: [] for name in columns[1:]})
            for name, value in zip(columns[1:], values[1:], strict=True):
                row[name].append(value)
        return Dataset.from_list(list(groups.values()))

    def count_rows(self, table: Dataset) -> int:
        return sum(len(passages) for passages in table[self.texts[1]])

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the tokens of all passages of each query, one after the other, with the size of each, and labels."""
        queries, passages = (rows[name] for name in self.texts)
        counts = list(map(len, passages))
        pairs = [query for query, count in zip(queries, counts, strict=True) for _ in range(count)], [*chain(*passages)]
        inputs = dict(self.tokenizer(*pairs, truncation=True, max_length=self.max_length))
        encoding = _joined("", inputs, counts)
        for teacher, encoder in self.teacher_encoders.items():
            encoding |= _joined(own_key(teacher, ""), encoder.encode(*pairs), counts)
        if self.soft_labels and self.classes and self.soft_labels.names[0] in rows:
            scores = self.soft_labels.logits({name: [*chain(*rows[name])] for name in self.soft_columns}, self.classes)
            encoding[KEY] = _by_query(scores, counts)
        if self.label in rows:
            return encoding | {"labels": [list(map(self.label_id, labels)) for labels in rows[self.label]]}
        return encoding | {"labels": [[math.nan] * count for count in counts]}

    def finalize_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch whose inputs have a row for each passage, [N, S], and whose labels one for each query, [B, P].

        A label is minus infinity where a query has fewer passages.
        """
        padding = {
            "input_ids": self.tokenizer.pad_token_id,
            "token_type_ids": self.tokenizer.pad_token_type_id,
        }
        batch = dict(batch)
        for key in [name for name in batch if name == SIZES or name.endswith(own_key("", SIZES))]:
            prefix, sizes = key.removesuffix(SIZES), batch.pop(key)
            for name in MODEL_INPUTS:
                if (values := batch.get(f"{prefix}{name}")) is not None:
                    padding_value = 0 if prefix else padding.get(name, 0)  # a teacher sets its own where it reads
                    batch[f"{prefix}{name}"] = _split(values, sizes, padding_value)
            if not prefix:
                batch["labels"] = batch["labels"].float().masked_fill(sizes == 0, -torch.inf)
                if KEY in batch:
                    batch[KEY] = batch[KEY][sizes > 0]
        return batch

    def select_logits(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the scores of the passages of each query, [B, P, 1] from [N, 1]; 0 where it has fewer.

        Of a batch without labels the queries are unknown, and the scores stay as they are.
        """
        if "labels" not in batch:
            return logits
        mask = prediction_mask(batch)
        selected = logits.new_zeros(*mask.shape, 1)
        selected[mask] = logits
        return selected

    def expand_logits(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return logits[prediction_mask(batch)] if "labels" in batch else logits

    @property
    def main_metric(self) -> str:
        """The config's ``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """Return nDCG and MRR of the ten best passages of each query."""
        from torchmetrics import MetricCollection  # not above: it takes seconds

        from distill.tasks.metrics.retrieval import MRR, NDCG

        return MetricCollection({"ndcg_10": NDCG(10), "mrr_10": MRR(10)}, compute_groups=False)

    def update_metrics(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        metrics.update(logits.squeeze(-1), batch["labels"])

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the score of each passage of all queries, [N]."""
        return logits[prediction_mask(batch)].squeeze(-1).float()

    def prediction_labels(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["labels"][prediction_mask(batch)]

    def label_text(self, row: dict[str, Any]) -> str:
        return ", ".join(f"{float(label):g}" for label in row[self.label])

    def input_text(self, row: dict[str, Any]) -> str:
        return str(row[self.texts[0]])


def _joined(prefix: str, inputs: dict[str, list[list[int]]], counts: list[int]) -> dict[str, list[list[int]]]:
    """Return inputs of passages joined by query, and the sizes of the passages, under names with a prefix."""
    columns = {
        f"{prefix}{name}": [[*chain(*query)] for query in _by_query(values, counts)] for name, values in inputs.items()
    }
    sizes = [[len(ids) for ids in query] for query in _by_query(inputs["input_ids"], counts)]
    return columns | {f"{prefix}{SIZES}": sizes}


def _by_query(values: list[Any], counts: list[int]) -> list[list[Any]]:
    """Return the values of passages, one after the other, as a list for each query."""
    rest = iter(values)
    return [list(islice(rest, count)) for count in counts]


def _split(values: Tensor, sizes: Tensor, padding: int) -> Tensor:
    """Return the passages of joined inputs as rows, [N, S] from [B, L] and sizes [B, P], of which 0 is no passage."""
    parts = [part for row, size in zip(values, sizes.tolist(), strict=True) for part in row[: sum(size)].split(size)]
    return pad_sequence([part for part in parts if len(part)], True, padding)
