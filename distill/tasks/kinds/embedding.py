"""Text encoders: a vector for each text, compared by their cosines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.tasks.columns import check_columns, values_of
from distill.tasks.kinds.texts import NumberLabelTask, correlations
from distill.tasks.task import Predict
from students.models.pooling import PoolingMode, write_max_length
from students.recording.own_tokens import own_key
from students.recording.second_text import TEXTS, second_text

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import MetricCollection
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from students.loading.auto_class import AutoClass


@dataclass(kw_only=True)
class VectorTask(NumberLabelTask):
    """The base class of tasks whose model gives a vector for each text, learnt from a teacher's.

    Each text of a pair is a training example of its own, and so are ``unlabelled`` texts, which may lack the second
    column. The labels are for validation and test.

    Args:
        pooling: how the states of the tokens become a vector: their ``mean``, the first (``cls``) or the ``last`` one;
            by default as in the teacher's sentence-transformers folder, else the mean.
        normalize: whether vectors have length 1; by default as in that folder, else not.
    """

    auto_class: ClassVar[str] = "AutoModel"
    pipeline: ClassVar[str] = "feature-extraction"
    accepts_soft_labels: ClassVar[bool] = False
    gives_vectors: ClassVar[bool] = True

    pooling: PoolingMode | None = None
    normalize: bool | None = None

    @property
    def head(self) -> AutoClass:
        from students.models.text_vectors import AutoModelForVectors  # not above: a config is read without transformers

        return AutoModelForVectors(self.pooling, self.normalize)

    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(table, tokenizer)
        if len(self.texts) != 2:
            raise ValueError(
                f"text: name the two columns of a pair, by whose similarity models are judged, not {self.texts[0]!r} "
                "alone; texts without a pair go into unlabelled"
            )

    @property
    def input_columns(self) -> list[str]:
        return self.texts[:1]

    def unlabelled_columns(self, table: Dataset) -> list[str]:
        check_columns(table, "data", self.texts[:1])
        return [name for name in self.texts if name in table.column_names]

    def training_rows(self, table: Dataset) -> Dataset:
        """Return a row for each text."""
        from datasets import Dataset  # not above: a config is read without datasets

        texts = [text for name in self.unlabelled_columns(table) for text in values_of(table, name)]
        return Dataset.from_dict({self.texts[0]: texts})

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the inputs of each text, of a pair those of both, and the label of a pair."""
        encoding: dict[str, list[Any]] = {}
        for prefix, column in zip(TEXTS, self.texts, strict=False):
            if column not in rows:
                continue
            inputs = self.tokenizer(rows[column], truncation=True, max_length=self.max_length)
            encoding |= {f"{prefix}{name}": values for name, values in inputs.items()}
            for teacher, encoder in self.teacher_encoders.items():
                own = encoder.encode(rows[column])
                encoding |= {own_key(teacher, f"{prefix}{name}"): values for name, values in own.items()}
        labels = self.targets(rows) if self.label in rows else [math.nan] * len(rows[self.texts[0]])
        return encoding | {"labels": labels}

    def compute_logits(self, predict: Predict, batch: dict[str, Tensor]) -> Tensor:
        """Return the vectors of texts, [B, D], or of both texts of pairs, [B, 2, D]."""
        second = second_text(batch)
        return predict(batch) if second is None else torch.stack([predict(batch), predict(second)], 1)

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the cosine of each pair, [B], from the vectors of both texts, [B, 2, D]."""
        return F.cosine_similarity(logits[:, 0].float(), logits[:, 1].float(), dim=-1)

    def prediction_text(self, prediction: Tensor, row: dict[str, Any]) -> str:
        return f"{float(prediction):.2f}"

    def answer(self, logits: Tensor, row: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Return the ``vector``."""
        return {"vector": logits.float().tolist()}

    def finish_folder(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the maximum length of a text for sentence-transformers."""
        write_max_length(folder, self.max_length)


@dataclass(kw_only=True)
class Embedding(VectorTask):
    """A vector for each text, learnt from a teacher's; judged by how the cosines of pairs follow their labels.

    Args:
        label: the column of the similarity of a pair, a number.
        metric: by which the best checkpoint is chosen: the rank correlation of cosines and labels, or the linear one.
    """

    metric: Literal["spearman", "pearson"] = "spearman"

    @property
    def main_metric(self) -> str:
        """The config's ``metric``."""
        return self.metric

    def metrics(self) -> MetricCollection:
        """Return Pearson and Spearman correlation of cosines and labels."""
        return correlations()
