"""The base class of tasks with a data set: its columns, the encoding of its rows, and answers about new ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from distill.config.schema import check_identifiers
from distill.tasks.augment.augmentation import Augmentation, Row
from distill.tasks.soft_labels import RowJudge, SoftLabels
from distill.tasks.task import Predict, Task
from students.recording.sparse_lm_head import IGNORED
from students.tokenizer.encoder import TextEncoder

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(kw_only=True)
class DataTask(Task):
    """A task with a single data set.

    Args:
        data: a hub name (``nyu-mll/glue/sst2``), a folder with train, validation and test files, or one file
            (parquet, csv, tsv, json, jsonl, arrow). Without validation rows a tenth of training is held out; test
            rows, if there are any, are evaluated once, at the end. A csv is separated by
            comma, semicolon, tab or bar; a tsv has no quoting.
        max_length: longer texts are truncated to this number of tokens.
        max_train_samples: use only the first training rows, after a fixed shuffle; rows of raw text are not shuffled.
        augment: one augmentation of the training rows, or several by name, applied in their order.
    """

    in_order: ClassVar[bool] = False
    """Whether a row continues the one before it, so that rows must not be shuffled."""
    label_noun: ClassVar[str] = "labels"
    """The plural noun for labels in messages, for tasks whose rows have any number of labels."""
    lost_label_effect: ClassVar[dict[str, str]] = {
        "train": "are not learnt",
        "validation": "are not evaluated",
        "test": "are not evaluated",
    }
    """The effect of truncated labels, for messages."""

    writes_text: ClassVar[bool] = False
    """Whether a model answers by writing a text, with ``generate``."""
    reads_words: ClassVar[bool] = False
    """Whether an input may be a list of words."""

    data: str
    max_length: int = 128
    max_train_samples: int | None = None
    augment: Augmentation | dict[str, Augmentation] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_length", "max_train_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, not {getattr(self, name)}")
        self.soft_labels: SoftLabels | None = None
        """The columns of the teacher's outputs, if it has no model."""
        self.judge: RowJudge | None = None
        """What judges the rows before they are encoded, if the teacher does so."""
        self.judge_notes: list[str] = []
        """On how its outputs came about."""
        self.teacher_encoders: dict[str, TextEncoder] = {}
        """By teacher with a tokenizer of its own, what encodes the texts for it."""
        check_identifiers("augment", self.augment if isinstance(self.augment, dict) else ())

    def augmentations(self) -> list[Augmentation]:
        if isinstance(self.augment, dict):
            return list(self.augment.values())
        return [self.augment] if self.augment else []

    @abstractmethod
    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        """Determine the columns and the classes from the training rows.

        Raises:
            ValueError: if a column is missing, or the tokenizer is unsuitable.
        """
        self.tokenizer, self.notes = tokenizer, []

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """The columns that are read, known after ``setup``."""

    @property
    def added_columns(self) -> tuple[str, ...]:
        """The columns that ``mark_documents`` adds to the rows of the data."""
        return ()

    @property
    def soft_columns(self) -> list[str]:
        """The columns of the teacher's outputs, which rows of validation and test may lack."""
        return self.soft_labels.names if self.soft_labels else []

    def label_kind(self, table: Dataset) -> object:
        """Return the kind of the labels, which must be equal in all files."""
        return None

    def bad_types(self, table: Dataset) -> Iterator[tuple[int, str]]:
        """Yield (row, message) for each label column of an unsuitable type; the row is an example.

        Called before ``setup``, which can then rely on the types.
        """
        yield from ()

    @abstractmethod
    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        """Yield (row counted from 1, message) for each row that cannot be used."""

    def validation_row(self, index: int) -> dict[str, Any]:
        """Return a validation row before encoding.

        Raises:
            ValueError: if none have been read.
        """
        if self.validation is None:
            raise ValueError("no validation rows have been read")
        row: dict[str, Any] = self.validation[index]
        return row

    def mark_documents(self, table: Dataset) -> Dataset:
        """Return the rows of a file with the columns about neighbouring rows that ``encode`` needs."""
        return table

    def count_rows(self, table: Dataset) -> int:
        """Return the number of rows of the data in a table that ``mark_documents`` has returned."""
        return len(table)

    def training_rows(self, table: Dataset) -> Dataset:
        """Return the training rows as they are encoded, of those of the data."""
        return table

    @abstractmethod
    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the model inputs, ``labels``, and what metrics need, of a batch of rows."""

    def count_targets(self, labels: list[int] | int | float) -> int:
        """Return the number of predictions that the labels of a row require."""
        return sum(label != IGNORED for label in labels) if isinstance(labels, list) else 1

    def label_classes(self, labels: Any) -> Iterable[int]:
        """Return the classes that the encoded labels of a row have, to count its rows by class."""
        return labels if isinstance(labels, list) else [labels]

    def redraw(self, row: Row, generator: torch.Generator) -> Row:
        """Return a row with newly drawn inputs and labels, if the task ``redraws_rows``."""
        return row

    @property
    def input_columns(self) -> list[str]:
        """The columns that a model reads, known after ``setup`` or ``restore``: those of the texts."""
        return self.texts

    def restore(self, tokenizer: PreTrainedTokenizerBase, columns: dict[str, str]) -> None:
        """Set up to answer about new rows, without data.

        Args:
            tokenizer: of the deployed student.
            columns: {column of the training data: its use}, as in the preflight.
        """
        self.tokenizer = tokenizer
        self.texts = [name for name, use in columns.items() if use.startswith("text")]

    def encode_inputs(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the model inputs of a batch of rows, of which only ``input_columns`` are read."""
        columns = [rows[name] for name in self.input_columns]
        return dict(self.tokenizer(*columns, truncation=True, max_length=self.max_length))

    @abstractmethod
    def answer(self, logits: Tensor, row: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Return what a model says of a row, as plain data.

        Args:
            logits: its outputs for the row, without padding; the tokens that it has written if the task
                ``writes_text``.
            row: the row.
            names: of the outputs.
        """

    def outputs(self, model: PreTrainedModel | None, predict: Predict, batch: dict[str, Tensor]) -> Iterable[Tensor]:
        """Return for each row of a batch what ``answer`` reads: its logits, or the tokens that the model writes.

        Args:
            model: the network; None if a file in another runtime computes the logits.
            predict: returns the logits of a batch.
            batch: padded.
        """
        return predict(batch)
