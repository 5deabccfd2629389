"""Evaluate: teacher, student and export are measured side by side."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from distill.data.batches import Collator, sequential_batches
from distill.data.vocabulary import retokenize
from distill.evaluation.batch_dependence import Sample, batch_dependence
from distill.evaluation.batch_dependence import samples as alone_and_together
from distill.evaluation.deployed import Deployed, Export
from distill.evaluation.measure import (
    EvalResult,
    Measured,
    agreement,
    evaluate_model,
    flops,
    latencies,
    sizes,
    torch_predict,
)
from distill.tasks.task import Predict, Task
from distill.teachers.ensemble import EnsembleModel, Teachers
from distill.teachers.teacher import FrozenTeacher, Teacher
from students.loading.stored import StoredPrecision
from students.tokenizer.vocabulary import Vocabulary


@dataclass
class EvalBatches:
    """The validation rows as batches, as some of the models read them."""

    batches: list[dict[str, Tensor]]
    """All rows."""
    latency: dict[str, dict[str, Tensor]]
    """The batches on which latency is measured, ``batch_1`` and ``batch_32``."""
    alone: list[Sample]
    """Some of the rows alone and together."""

    @classmethod
    def of(cls, rows: Dataset, groups: list[list[int]], chosen: dict[str, list[int]], collate: Collator) -> EvalBatches:
        """Return batches of these rows: all, in groups, and the chosen ones."""
        latency = {name: collate([rows[i] for i in numbers]) for name, numbers in chosen.items()}
        batches = list(DataLoader(rows, batch_sampler=groups, collate_fn=collate))
        return cls(batches, latency, alone_and_together(rows, groups, collate))


def eval_batches(
    task: Task, rows: Dataset, collate: Collator, vocabulary: Vocabulary | None, world: int = 1
) -> tuple[EvalBatches, EvalBatches]:
    """Return the validation rows as the teachers read them, and as the student does, whose vocabulary may be another.

    One process runs them all: it is given no more at once than it had while ``world`` of them trained.
    """
    groups, chosen = sequential_batches(task.row_groups(rows), -(-2 * task.batch_size // world)), latency_rows(rows)
    teacher_batches = EvalBatches.of(rows, groups, chosen, collate)
    if not vocabulary:
        return teacher_batches, teacher_batches
    again = retokenize(task, rows, vocabulary.tokenizer)
    return teacher_batches, EvalBatches.of(
        again, groups, chosen, Collator(vocabulary.tokenizer, finalize=task.finalize_batch)
    )


@dataclass
class Evaluation:
    """What was measured of all models of a run."""

    models: dict[str, Measured]
    exports: list[Export]
    results: dict[str, EvalResult]
    """The predictions of each model, and of the ``export``."""


def evaluate(
    task: Task,
    settings: Teacher | Teachers | None,
    teachers: dict[str, FrozenTeacher],
    deployed: Deployed,
    teacher_batches: EvalBatches,
    student_batches: EvalBatches,
) -> Evaluation:
    """Measure everything on the CPU, on the same rows, with the same threads, in turn.

    Args:
        task: gives the metrics.
        settings: of the teacher, or of how several are one.
        teachers: the teachers by name.
        deployed: the student.
        teacher_batches: the rows as the teachers read them.
        student_batches: the same, as the student reads them.
    """
    torch_models = _teachers(task, settings, teachers) | {"student": deployed.model}
    if deployed.precision != "float32":
        torch_models["student in bfloat16"] = deepcopy(deployed.model).to(torch.bfloat16)
    runners: dict[str, Predict] = {name: torch_predict(model) for name, model in torch_models.items()}
    if deployed.export:
        runners["export"] = deployed.export.predict
    read = {name: teacher_batches if name.startswith("teacher") else student_batches for name in runners}
    inputs = {key: {name: read[name].latency[key] for name in runners} for key in student_batches.latency}
    times = {key: latencies(runners, batches) for key, batches in inputs.items()}
    results = {
        name: deployed.result if name == "student" else evaluate_model(task, predict, read[name].batches)
        for name, predict in runners.items()
    }
    files, models = _stored(teachers), {}
    for name, model in torch_models.items():
        parameters, nonzero = sizes(model)
        models[name] = Measured(
            results[name].metrics,
            parameters,
            nonzero,
            round(parameters * (files[name].bytes_per_weight if name in files else model.dtype.itemsize)),
            flops(model, inputs["batch_1"][name]),
            {key: times[key][name] for key in inputs},
            precision=files[name].precision if name in files else str(model.dtype).removeprefix("torch."),
        )
    if not deployed.export:
        return Evaluation(models, [], results)
    folded, latency_ms = models["student"], {key: times[key]["export"] for key in inputs}
    export = _export(deployed, results["export"], latency_ms, in_half=2 * folded.parameters)
    export.batch_dependence = batch_dependence(task, deployed.export.predict, student_batches.alone)
    if deployable(export, folded):
        models["student"] = replace(
            folded,
            metrics=export.metrics,
            bytes=export.bytes,
            latency_ms=export.latency_ms,
            runtime=deployed.export.runtime,
            precision=export.precision,
        )
        models["student in torch"] = folded
    return Evaluation(models, [export], results)


def _stored(teachers: dict[str, FrozenTeacher]) -> dict[str, StoredPrecision]:
    """How the files of the teachers hold them, by the name in the report; of several the average over their numbers."""
    if not teachers:
        return {}
    counts = [teacher.model.num_parameters() for teacher in teachers.values()]
    held = [teacher.stored for teacher in teachers.values()]
    each = sum(n * stored.bytes_per_weight for n, stored in zip(counts, held, strict=True)) / sum(counts)
    named = {f"teacher {name}": teacher.stored for name, teacher in teachers.items()}
    return named | {"teacher": StoredPrecision(", ".join(dict.fromkeys(stored.precision for stored in held)), each)}


def _teachers(
    task: Task, settings: Teacher | Teachers | None, teachers: dict[str, FrozenTeacher]
) -> dict[str, PreTrainedModel | EnsembleModel]:
    """The teacher; of several, what they say together, and each."""
    for teacher in teachers.values():
        teacher.recorder.close()
        teacher.model.cpu()
    models = {name: teacher.model for name, teacher in teachers.items()}
    if not isinstance(settings, Teachers):
        return models
    joint = {"teacher": EnsembleModel(models, settings.member_weights(), settings.combine, task)}
    # A teacher of one task cannot be judged on all.
    alone = {} if settings.combine == "task" else models
    return joint | {f"teacher {name}": model for name, model in alone.items()}


def deployable(export: Export, folded: Measured) -> bool:
    """Whether a file counts as the student: if it is no larger than the folded one in torch, but for the graph that it
    holds beside the weights (a hundredth)."""
    return export.bytes < 1.01 * folded.bytes


def _export(deployed: Deployed, result: EvalResult, latency_ms: dict[str, float], in_half: int) -> Export:
    """The export, and what it said; ``in_half`` are the bytes of the student in bfloat16."""
    size, precision = deployed.export.path.stat().st_size, deployed.precision
    # A file no smaller than bfloat16 is not called int8, whatever is inside.
    if size >= in_half and precision != "float32":
        precision = f"partly {precision}"
    return Export(
        format=deployed.export.format,
        path=deployed.export.path.name,
        bytes=size,
        metrics=result.metrics,
        latency_ms=latency_ms,
        agreement=agreement(result.predictions, deployed.result.predictions),
        largest_difference=deployed.parity["exported"],
        precision=precision,
        departures=deployed.export.departures,
    )


def latency_rows(rows: Dataset) -> dict[str, list[int]]:
    """One row of the median length, and the 32 rows nearest to it; of fewer, some stand twice or more."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    middle, half = len(order) // 2, min(16, len(order) // 2)
    return {
        "batch_1": [order[middle]],
        "batch_32": [order[(middle - half + i) % len(order)] for i in range(32)],
    }
