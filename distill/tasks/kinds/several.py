"""Several tasks on texts at once: one encoder, and a head for each, which is a slice of one layer of outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from distill.config.schema import check_names
from distill.tasks.classes import Classes, is_unnamed
from distill.tasks.kinds.texts import TextTask
from distill.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from torchmetrics import MetricCollection


@dataclass(kw_only=True)
class MultiTask(Task):
    """Several tasks on texts with one shared encoder (MT-DNN, Liu et al. 2019, arXiv 1901.11504).

    A batch holds rows of one task; batches of all tasks are mixed, each task in proportion to its rows. The heads are
    slices of one layer of outputs, so the model stays a stock classifier; its outputs are named ``task/class``.

    Args:
        tasks: by name; of classification or regression, each with data, lengths and metric of its own.
    """

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    has_tasks: ClassVar[bool] = True

    tasks: dict[str, TextTask]

    def __post_init__(self):
        super().__post_init__()
        if len(self.tasks) < 2:
            raise ValueError("tasks: name two or more; a single one is `task: {name: ...}`")
        check_names("tasks", self.tasks)
        for name, task in self.tasks.items():
            if task.augment:
                raise ValueError(f"tasks: {name}: augment: is for a single task")
            if task.batch_size != Task.batch_size:
                raise ValueError(f"tasks: {name}: batch_size: is one for all; it stands beside tasks")

    @property
    def parts(self) -> dict[str, Task]:
        return self.tasks

    def join(self, rows: dict[str, DatasetDict]) -> DatasetDict:
        """Return the rows of all tasks, task after task, with ``task``, its number; put the outputs side by side.

        Training rows that another task's validation has are left out: data sets overlap (MRPC and STS-B do).
        """
        from datasets import Dataset, DatasetDict, concatenate_datasets  # not above: a config is read without it

        self.join_classes()
        joined, self.notes = {"train": [], "validation": []}, []
        for name, splits in rows.items():
            others = {tuple(ids) for other in rows if other != name for ids in rows[other]["validation"]["input_ids"]}
            fresh = [i for i, ids in enumerate(splits["train"]["input_ids"]) if tuple(ids) not in others]
            if left := len(splits["train"]) - len(fresh):
                self.notes.append(f"{name}: {left} training rows were left out, which other tasks are validated on")
            for split, part in (("train", splits["train"].select(fresh)), ("validation", splits["validation"])):
                labels = Dataset.from_dict({"labels": [float(label) for label in part["labels"]]})
                part = concatenate_datasets([part.remove_columns("labels"), labels], axis=1)
                joined[split].append(part.add_column("task", [self.number(name)] * len(part)))
        return DatasetDict({split: concatenate_datasets(parts) for split, parts in joined.items()})

    def join_classes(self) -> None:
        """Put the outputs of the tasks side by side, once all are set up."""
        names = [f"{task}/{name}".rstrip("/") for task, part in self.tasks.items() for name in part.classes.names]
        self.classes = Classes(names, list(range(len(names))))

    def head_order(self, head: list[str]) -> list[int]:
        """Of each output of the run that of a model: by ``task/class``, of outputs without names by number."""
        if is_unnamed(head):
            return self.classes.order(head)
        order = []
        for task, part in self.tasks.items():
            own = [i for i, name in enumerate(head) if name.partition("/")[0] == task]
            try:
                order += [own[i] for i in part.head_order([head[i].partition("/")[2] for i in own])]
            except ValueError as error:
                raise ValueError(f"{task}: {error}") from error
        return order

    def kinds(self, rows: Dataset) -> list[int]:
        return list(rows["task"])

    def number(self, name: str) -> int:
        """Which of the tasks it is."""
        return list(self.tasks).index(name)

    def of(self, batch: dict[str, Tensor]) -> tuple[str, TextTask]:
        """The task of a batch."""
        return list(self.tasks.items())[int(batch["task"][0])]

    def outputs(self, name: str) -> slice:
        """Where the outputs of a task stand."""
        widths = {name: len(task.classes.names) for name, task in self.tasks.items()}
        start = sum(width for other, width in list(widths.items())[: self.number(name)])
        return slice(start, start + widths[name])

    def finish(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Labels of classes are whole numbers, which beside real ones in a column they are not."""
        _, task = self.of(batch)
        return batch if task.problem == "regression" else batch | {"labels": batch["labels"].long()}

    @property
    def main_metric(self) -> str:
        """The mean of the tasks' main metrics."""
        return "mean"

    def metrics(self) -> MetricCollection:
        """Of each task its metrics, as ``task/metric``, and the mean of their main ones."""
        from torchmetrics import MetricCollection  # not above: it takes seconds

        from distill.tasks.metrics import MeanOfMetrics

        parts = {f"{name}/{key}": m for name, task in self.tasks.items() for key, m in task.metrics().items()}
        mains = [parts[f"{name}/{task.main_metric}"] for name, task in self.tasks.items()]
        return MetricCollection(parts | {"mean": MeanOfMetrics(mains)}, compute_groups=False)

    def select(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return logits[:, self.outputs(self.of(batch)[0])]

    def widen(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The outputs of one task, [B, C], where they stand among those of all, [B, sum of C]."""
        wide = logits.new_zeros(len(logits), len(self.classes.names))
        wide[:, self.outputs(self.of(batch)[0])] = logits
        return wide

    def predictions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return self.of(batch)[1].predictions(logits, batch).float()

    def certainty(self, logits: Tensor, batch: dict[str, Tensor]) -> None:
        return None

    def judge(self, metrics: MetricCollection, logits: Tensor, batch: dict[str, Tensor]) -> None:
        name, task = self.of(batch)
        said = task.predictions(logits, batch)
        for key, metric in metrics.items():
            if key.startswith(f"{name}/"):
                metric.update(said, batch["labels"])
        metrics["mean"].update()
