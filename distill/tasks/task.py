"""What a task is: a head, where it predicts, how that is judged; and, of most, columns and classes of one data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from distill.config.schema import check_names
from distill.tasks.augment.augmentation import Augmentation, Row
from distill.tasks.classes import Classes
from losses.loss import prediction_mask
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from torchmetrics import MetricCollection
    from transformers import GenerationConfig, PreTrainedTokenizerBase

if TYPE_CHECKING:
    from distill.tasks.facts import DataFacts

Predict = Callable[[dict[str, Tensor]], Tensor]
"""From a batch to the logits of its rows, [B, ...]."""


@dataclass(kw_only=True)
class Task(ABC):
    """What the models of a run are for.

    Args:
        batch_size: examples in a batch, of all processes together: of 32 on 4 devices each takes 8. An optimizer step
            is of ``batch_size * accumulate_grad_batches`` examples, whatever runs it.
    """

    selector: ClassVar[str] = "name"
    auto_class: ClassVar[str]
    """The name of the Auto class of transformers that loads a model with this head."""
    problem: ClassVar[str | None] = None
    """What transformers calls the ``problem_type``, where the head has one."""
    predicts_tokens: ClassVar[bool] = False
    """Whether the outputs are the tokens of a vocabulary."""
    predicts_positions: ClassVar[bool] = False
    """Whether the classes are places in a text."""
    has_tasks: ClassVar[bool] = False
    """Whether it is several tasks, ``tasks`` by name."""
    redrawn: ClassVar[bool] = False
    """Whether what is asked of a row is drawn anew in each epoch, by ``draw``."""

    batch_size: int = 32

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"batch_size: must be at least 1, not {self.batch_size}")
        self.notes: list[str] = []
        """What the report says of the rows that were read."""
        self.classes: Classes | None = None
        """Of the outputs; none where these are numbers, words of the tokenizer or positions."""
        self.validation: Dataset | None = None
        """The rows by which is judged, as they are, where they are of one data set."""
        self.facts: DataFacts | None = None
        """What was read, where the task has data of its own."""

    @property
    def parts(self) -> dict[str, Task]:
        """The tasks on one data set of which it consists, by name; a single one has the empty name."""
        return {"": self}

    def join(self, rows: dict[str, DatasetDict]) -> DatasetDict:
        """Return the rows of all parts as one."""
        return rows[""]

    @property
    def head(self) -> type:
        """The class of that name."""
        import transformers  # not above: a config is read without it

        return getattr(transformers, self.auto_class)

    @property
    def has_single_rows(self) -> bool:
        """Whether a batch is one row."""
        return self.batch_size < 2

    @property
    def augments(self) -> bool:
        """Whether rows are augmented."""
        return bool(self.augmentations())

    def head_order(self, head: list[str]) -> list[int]:
        """Of each class the output of a model whose outputs have these names.

        Raises:
            ValueError: if nothing proves which is which.
        """
        return self.classes.order(head)

    def augmentations(self) -> list[Augmentation]:
        """The augmentations of training rows in their order."""
        return []

    def kinds(self, rows: Dataset) -> list[int]:
        """Of each row the kind, where a batch must not mix them."""
        return [0] * len(rows)

    def finish(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch as losses and metrics want it."""
        return batch

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """The metric by which the best state is chosen and what was retained is told."""

    @property
    def better(self) -> Literal["max", "min"]:
        """Whether a higher or a lower main metric is better."""
        return "max"

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """The metrics of a model."""

    def metrics_in_training(self) -> MetricCollection:
        """Those of a student that trains: without what is too dear and chooses no state."""
        return self.metrics()

    def end_as(self, settings: GenerationConfig | None) -> None:
        """Takes note of the tokens with which a model of the run ends a text."""

    def select(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """What counts of a model's outputs: a distribution or a number, in the last dimension, for each label."""
        return logits

    def widen(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Selected outputs as ``select`` finds them in what a model gives."""
        return logits

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """What a model says wherever it is asked, [N], of selected logits: the likeliest output."""
        return logits[prediction_mask(batch)].argmax(-1)

    def certainty(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor | None:
        """The probability that a model gives to each of its predictions, [N]; none of numbers."""
        return logits[prediction_mask(batch)].softmax(-1).amax(-1)

    def judge(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        """Adds the selected logits of a batch to the metrics."""
        metrics.update(self.predictions(logits, batch), batch["labels"][prediction_mask(batch)])

    def write(self, metrics: MetricCollection, predict: Predict, batch: dict[str, Tensor]) -> None:
        """Lets a model write where the task is to write texts, and adds them to the metrics."""

    def words(self, prediction: Tensor, row: dict) -> str | None:
        """A prediction for a row of the data in words; none where a row has not exactly one."""
        return None

    def truth(self, row: dict) -> str:
        """The label of a row of the data in words."""
        return ""

    def shown(self, row: dict) -> str:
        """What is read of a row of the data, in words."""
        return ""


@dataclass(kw_only=True)
class DataTask(Task):
    """A task on one data set.

    Args:
        data: a hub name (``nyu-mll/glue/sst2``), a folder with train and validation files, or one file
            (parquet, csv, tsv, json, jsonl, arrow), of which a tenth is kept for validation. A csv is separated by
            comma, semicolon, tab or bar; a tsv has no quoting.
        max_length: tokens beyond it are cut off.
        train_rows: use only the first so many training rows, after a fixed shuffle unless they belong together.
        augment: one augmentation of the training rows, or several by name, applied in their order.
    """

    in_order: ClassVar[bool] = False
    """Whether a row goes on where the one before it ends, so that rows are not to be shuffled."""
    label_noun: ClassVar[str] = "labels"
    """What the labels of rows are called, where a row may have more than one or none."""
    label_lost: ClassVar[dict[str, str]] = {"train": "are not learnt", "validation": "are not judged"}
    """What becomes of labels that are cut off."""

    data: str
    max_length: int = 128
    train_rows: int | None = None
    augment: Augmentation | dict[str, Augmentation] | None = None

    def __post_init__(self):
        super().__post_init__()
        for name in ("max_length", "train_rows"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, not {getattr(self, name)}")

        check_names("augment", self.augment if isinstance(self.augment, dict) else ())

    def augmentations(self) -> list[Augmentation]:
        return list(self.augment.values()) if isinstance(self.augment, dict) else [self.augment] * bool(self.augment)

    @abstractmethod
    def setup(self, table: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        """Finds the columns and the classes in the training rows.

        Raises:
            ValueError: if a column is missing, or the tokenizer cannot serve.
        """
        self.tokenizer, self.notes = tokenizer, []

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """The columns that are read, known after ``setup``."""

    def kind(self, table: Dataset) -> object:
        """What must be the same of the labels in all files."""
        return None

    def bad_types(self, table: Dataset) -> Iterator[tuple[int, str]]:
        """The columns of labels whose type is that of no label: (a row that shows it, what is wrong).

        Asked before ``setup``, which then may rely on the types.
        """
        yield from ()

    @abstractmethod
    def bad_rows(self, table: Dataset) -> Iterator[tuple[int, str]]:
        """The rows that cannot be used: (row counted from 1, what is wrong with it)."""

    def mark(self, table: Dataset) -> Dataset:
        """The rows of a file with what ``encode`` has to know of where they stand in it."""
        return table

    @abstractmethod
    def encode(self, rows: dict[str, list]) -> dict[str, list]:
        """Of some rows what the model reads, ``labels``, and what the judging needs."""

    def targets(self, labels: list[int] | int | float) -> int:
        """How many predictions the labels of a row ask for."""
        return sum(label != IGNORED for label in labels) if isinstance(labels, list) else 1

    def draw(self, row: Row, draw: torch.Generator) -> Row:
        """The row with what is asked of it in an epoch, where that is ``redrawn``."""
        return row
