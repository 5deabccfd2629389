"""The base class of tasks: the head of a model, its predictions and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor

from distill.tasks.augment.augmentation import Augmentation
from distill.tasks.classes import Classes
from losses.loss import prediction_mask

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from torchmetrics import MetricCollection
    from transformers import GenerationConfig, PreTrainedModel

    from distill.tasks.facts import DataFacts
    from students.loading.auto_class import AutoClass

Predict = Callable[[dict[str, Tensor]], Tensor]
"""From a batch to the logits of its rows, [B, ...]."""


@dataclass(kw_only=True)
class Task(ABC):
    """The task of a run's models.

    Args:
        batch_size: examples in a batch, of all processes together: of 32 on 4 devices each takes 8. An optimizer step
            has ``batch_size * accumulate_grad_batches`` examples on any number of devices.
    """

    selector: ClassVar[str] = "name"
    auto_class: ClassVar[str]
    """The name of the Auto class of transformers that loads a model with this head."""
    pipeline: ClassVar[str | None] = None
    """The hub's name for what a model does, as in ``transformers.pipeline``; None if it has none."""
    problem: ClassVar[str | None] = None
    """The ``problem_type`` of transformers, if the head has one."""
    predicts_tokens: ClassVar[bool] = False
    """Whether the outputs are the tokens of a vocabulary."""
    predicts_positions: ClassVar[bool] = False
    """Whether the classes are positions in a text."""
    is_multi_task: ClassVar[bool] = False
    """Whether it consists of several tasks, ``tasks`` by name."""
    is_multi_label: ClassVar[bool] = False
    """Whether a row may have several labels: selected logits are [B, L, 2], and predictions [B, L] of 0 and 1."""
    groups_passages: ClassVar[bool] = False
    """Whether an example is a query with all its passages: selected logits are [B, P, 1]."""
    gives_vectors: ClassVar[bool] = False
    """Whether an output is the vector of a text, instead of a prediction about it."""
    allows_own_tokens: ClassVar[bool] = False
    """Whether a teacher may read a text in other tokens: an output stands for a whole text or pair, or for a word."""
    redraws_rows: ClassVar[bool] = False
    """Whether the inputs and labels of a row are drawn anew in each epoch, by ``redraw``."""

    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: must be at least 1, not {self.batch_size}")
        self.notes: list[str] = []
        """Notes about the rows that were read, for the report."""
        self.classes: Classes | None = None
        """The classes of the outputs; None if these are numbers, tokens or positions."""
        self.validation: Dataset | None = None
        """The validation rows before encoding, if the task has a single data set."""
        self.test: Dataset | None = None
        """The test rows before encoding, if there are any."""
        self.facts: DataFacts | None = None
        """Facts about the data, if the task has data of its own."""

    @property
    def parts(self) -> dict[str, Task]:
        """The tasks with a single data set that it consists of, by name; a single task has the empty name."""
        return {"": self}

    def on_test_rows(self) -> Task:
        """Return the task with its test rows in place of those of validation, which some metrics read."""
        task = copy(self)
        task.validation = self.test
        return task

    def join(self, rows: dict[str, DatasetDict]) -> DatasetDict:
        """Return the rows of all parts as one data set."""
        return rows[""]

    @property
    def head(self) -> AutoClass:
        """The class that ``auto_class`` names."""
        import transformers  # not above: a config is read without it

        head: AutoClass = getattr(transformers, self.auto_class)
        return head

    @property
    def has_batches_of_one(self) -> bool:
        """Whether a batch is a single row."""
        return self.batch_size < 2

    @property
    def augments(self) -> bool:
        """Whether training rows are augmented."""
        return bool(self.augmentations())

    def head_order(self, head: list[str]) -> list[int]:
        """Return for each class the index of its output in a model with these output names.

        Raises:
            ValueError: if names and numbers do not determine the order.
        """
        if self.classes is None:
            raise ValueError("its outputs are no classes")
        return self.classes.order(head)

    def augmentations(self) -> list[Augmentation]:
        """Return the augmentations of training rows in their order."""
        return []

    def row_groups(self, rows: Dataset) -> list[int]:
        """Return the group of each row; a batch must not mix groups."""
        return [0] * len(rows)

    def finalize_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch in the form that losses and metrics need."""
        return batch

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """The name of the metric by which the best checkpoint is chosen and models are compared."""

    @property
    def metric_mode(self) -> Literal["max", "min"]:
        """Whether a higher (``max``) or a lower (``min``) main metric is better."""
        return "max"

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Return the metrics of a model."""

    def training_metrics(self) -> MetricCollection:
        """Return the metrics during training, without expensive ones that do not choose the best checkpoint."""
        return self.metrics()

    def add_end_tokens(self, settings: GenerationConfig | None) -> None:
        """Add the tokens with which a model of the run ends a text."""

    def compute_logits(self, predict: Predict, batch: dict[str, Tensor]) -> Tensor:
        """Return the logits of a batch that metrics compare, from what computes those of a model."""
        return self.select_logits(predict(batch), batch)

    def select_logits(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the logits that the task uses: a distribution or a number, in the last dimension, for each label."""
        return logits

    def expand_logits(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return selected logits in the shape of a model's outputs; the inverse of ``select_logits``."""
        return logits

    @property
    def decision_threshold(self) -> float | None:
        """The probability from which a label holds; None if it is still to be tuned, or if there are no decisions."""
        return None

    def at_threshold(self, threshold: float | None) -> Task:
        """Return the task with a threshold of its decisions; the task itself if it has none."""
        return self

    def best_threshold(self, logits: Iterable[Tensor], batches: Iterable[dict[str, Tensor]]) -> float | None:
        """Return the threshold that suits the selected logits of labelled batches; None if there is none to tune."""
        return None

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the predictions [N] of selected logits at all labelled positions: the most probable output."""
        return logits[prediction_mask(batch)].argmax(-1)

    def prediction_labels(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the labels of a batch at the positions of ``predictions``, [N]."""
        return batch["labels"][prediction_mask(batch)]

    def confidences(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor | None:
        """Return the probability of each prediction, [N]; None if predictions are numbers."""
        return logits[prediction_mask(batch)].softmax(-1).amax(-1)

    def update_metrics(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        """Update the metrics with the selected logits of a batch."""
        metrics.update(self.predictions(logits, batch), self.prediction_labels(batch))

    def update_generation_metrics(self, metrics: MetricCollection, predict: Predict, batch: dict[str, Tensor]) -> None:
        """Update the metrics that need generated texts, if the task has any."""

    def prediction_text(self, prediction: Tensor, row: dict[str, Any]) -> str | None:
        """Return a prediction for a row of the data as text; None if a row does not have exactly one prediction."""
        return None

    def label_text(self, row: dict[str, Any]) -> str:
        """Return the label of a row of the data as text."""
        return ""

    def finish_folder(self, model: PreTrainedModel, folder: Path) -> None:
        """Write further files into the folder of a saved model."""

    def input_text(self, row: dict[str, Any]) -> str:
        """Return the input of a row of the data as text."""
        return ""
