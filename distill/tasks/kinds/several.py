"""Several text tasks at once: one encoder, and for each task a head, which is a slice of one output layer."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from distill.config.schema import check_identifiers
from distill.tasks.classes import Classes, is_unnamed
from distill.tasks.kinds.texts import SingleLabelTask
from distill.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from torchmetrics import MetricCollection


@dataclass(kw_only=True)
class MultiTask(Task):
    """Several text tasks with a shared encoder (MT-DNN, Liu et al. 2019, arXiv 1901.11504).

    A batch holds rows of one task; batches of all tasks are mixed, each task in proportion to its rows. The heads are
    slices of one output layer, so the model stays a stock classifier; its outputs are named ``task/class``.

    Args:
        tasks: by name; classification or regression, each with its own data, lengths and metric.
    """

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str] = "text-classification"
    is_multi_task: ClassVar[bool] = True
    allows_own_tokens: ClassVar[bool] = True

    tasks: dict[str, SingleLabelTask]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.tasks) < 2:
            raise ValueError("tasks: needs two or more; a single one is `task: {name: ...}`")
        check_identifiers("tasks", self.tasks)
        for name, task in self.tasks.items():
            if task.augment:
                raise ValueError(f"tasks: {name}: augment: is for a single task")
            if task.batch_size != Task.batch_size:
                raise ValueError(f"tasks: {name}: batch_size: is the same for all tasks; write it beside `tasks`")

    @property
    def parts(self) -> dict[str, Task]:
        return self.tasks

    def on_test_rows(self) -> MultiTask:
        task = copy(self)
        task.tasks = {name: part.on_test_rows() for name, part in self.tasks.items()}
        return task

    def join(self, rows: dict[str, DatasetDict]) -> DatasetDict:
        """Return the rows of one task after the other, with the index of the ``task``, and join the tasks' outputs.

        Training rows that are validation or test rows of another task are left out: data sets overlap (MRPC and STS-B
        do). Test rows are evaluated if all tasks have them.
        """
        from datasets import Dataset, DatasetDict, concatenate_datasets  # not above: a config is read without it

        self.join_classes()
        joined, self.notes = {"train": [], "validation": []}, []
        with_test = [name for name, splits in rows.items() if "test" in splits]
        if len(with_test) == len(rows):
            joined["test"] = []
        elif with_test:
            self.notes.append(f"no test rows are evaluated: of the tasks only {', '.join(with_test)} have them")
        for name, splits in rows.items():
            held_out = {
                tuple(ids)
                for other in rows
                if other != name
                for split in rows[other].keys() - {"train"}
                for ids in rows[other][split]["input_ids"]
            }
            indices = [i for i, ids in enumerate(splits["train"]["input_ids"]) if tuple(ids) not in held_out]
            if removed := len(splits["train"]) - len(indices):
                reason = "they are validation or test rows of other tasks"
                self.notes.append(f"{name}: {removed} training rows were left out: {reason}")
            splits["train"] = splits["train"].select(indices)
            for split in joined:
                part = splits[split]
                labels = Dataset.from_dict({"labels": [float(label) for label in part["labels"]]})
                part = concatenate_datasets([part.remove_columns("labels"), labels], axis=1)
                joined[split].append(part.add_column("task", [self.task_index(name)] * len(part)))
        return DatasetDict({split: concatenate_datasets(parts) for split, parts in joined.items()})

    def join_classes(self) -> None:
        """Concatenate the outputs of the tasks, once all are set up."""
        names = [f"{task}/{name}".rstrip("/") for task, part in self.tasks.items() for name in part.classes.names]
        self.classes = Classes(names, list(range(len(names))))

    def head_order(self, head: list[str]) -> list[int]:
        """Return for each output its index in a model: by ``task/class``, or by number if its outputs have no names."""
        if is_unnamed(head):
            return self.classes.order(head)
        order = []
        for task, part in self.tasks.items():
            indices = [i for i, name in enumerate(head) if name.partition("/")[0] == task]
            try:
                order += [indices[i] for i in part.head_order([head[i].partition("/")[2] for i in indices])]
            except ValueError as error:
                raise ValueError(f"{task}: {error}") from error
        return order

    def row_groups(self, rows: Dataset) -> list[int]:
        return list(rows["task"])

    def task_index(self, name: str) -> int:
        """Return the index of a task."""
        return list(self.tasks).index(name)

    def task_of(self, batch: dict[str, Tensor]) -> tuple[str, SingleLabelTask]:
        """Return the name and the task of a batch."""
        return list(self.tasks.items())[int(batch["task"][0])]

    def outputs(self, name: str) -> slice:
        """Return the slice of the outputs that belongs to a task."""
        widths = {name: len(task.classes.names) for name, task in self.tasks.items()}
        start = sum(width for other, width in list(widths.items())[: self.task_index(name)])
        return slice(start, start + widths[name])

    def finalize_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert class labels to integers; in a column with the labels of regressions they are floats."""
        _, task = self.task_of(batch)
        return batch if task.problem == "regression" else batch | {"labels": batch["labels"].long()}

    @property
    def main_metric(self) -> str:
        """The mean of the tasks' main metrics."""
        return "mean"

    def metrics(self) -> MetricCollection:
        """Return the metrics of each task as ``task/metric``, and the mean of their main metrics."""
        from torchmetrics import MetricCollection  # not above: it takes seconds

        from distill.tasks.metrics.predictions import MeanOfMetrics

        metrics = {f"{name}/{key}": m for name, task in self.tasks.items() for key, m in task.metrics().items()}
        main_metrics = [metrics[f"{name}/{task.main_metric}"] for name, task in self.tasks.items()]
        return MetricCollection(metrics | {"mean": MeanOfMetrics(main_metrics)}, compute_groups=False)

    def select_logits(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return logits[:, self.outputs(self.task_of(batch)[0])]

    def expand_logits(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Place the outputs of a batch's task, [B, C], among those of all tasks, [B, sum of C]; the others are 0."""
        expanded = logits.new_zeros(len(logits), len(self.classes.names))
        expanded[:, self.outputs(self.task_of(batch)[0])] = logits
        return expanded

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return self.task_of(batch)[1].predictions(logits, batch).float()

    def confidences(self, logits: Tensor, batch: dict[str, Tensor]) -> None:
        return None

    def update_metrics(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        name, task = self.task_of(batch)
        predictions = task.predictions(logits, batch)
        for key, metric in metrics.items():
            if key.startswith(f"{name}/"):
                metric.update(predictions, batch["labels"])
        metrics["mean"].update()
