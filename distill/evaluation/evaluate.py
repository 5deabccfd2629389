"""After training: teacher, student and export are measured side by side, and the result is reported."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from distill.data.batches import Collate, in_turn
from distill.data.vocabulary import respelled
from distill.evaluation.batch_dependence import Sample, batch_dependence
from distill.evaluation.batch_dependence import samples as alone_and_together
from distill.evaluation.deployed import Deployed, Export
from distill.evaluation.measure import Judged, Measured, agreement, flops, judged, latencies, sizes, torch_predict
from distill.tasks import Task
from distill.tasks.task import Predict
from distill.teachers.ensemble import Joint, Teachers
from distill.teachers.teacher import FrozenTeacher, Teacher
from students.loading.stored import Stored
from students.tokenizer.vocabulary import Vocabulary


@dataclass
class Asked:
    """The validation rows, as some of the models read them."""

    batches: list[dict[str, Tensor]]
    """All rows."""
    samples: dict[str, dict[str, Tensor]]
    """The batches on which latency is measured, ``batch_1`` and ``batch_32``."""
    alone: list[Sample]
    """Some of the rows alone and together."""

    @classmethod
    def of(cls, rows: Dataset, groups: list[list[int]], chosen: dict[str, list[int]], collate: Collate) -> Asked:
        """Batches of these rows: all, in groups, and the chosen ones."""
        samples = {name: collate([rows[i] for i in numbers]) for name, numbers in chosen.items()}
        batches = list(DataLoader(rows, batch_sampler=groups, collate_fn=collate))
        return cls(batches, samples, alone_and_together(rows, groups, collate))


def asked_of(
    task: Task, rows: Dataset, collate: Collate, vocabulary: Vocabulary | None, world: int = 1
) -> tuple[Asked, Asked]:
    """The validation rows as the teachers read them, and as the student does, whose vocabulary may be another.

    One process runs them all: it is given no more at once than it had while ``world`` of them trained.
    """
    groups, chosen = in_turn(task.kinds(rows), -(-2 * task.batch_size // world)), latency_rows(rows)
    asked = Asked.of(rows, groups, chosen, collate)
    if not vocabulary:
        return asked, asked
    again = respelled(task, rows, vocabulary.tokenizer)
    return asked, Asked.of(again, groups, chosen, Collate(vocabulary.tokenizer, finish=task.finish))


def measure(
    task: Task,
    named: Teacher | Teachers | None,
    teachers: dict[str, FrozenTeacher],
    deployed: Deployed,
    asked: Asked,
    own: Asked,
) -> tuple[dict[str, Measured], list[Export], dict[str, Judged]]:
    """Everything on the CPU, on the same rows, with the same threads, in turn.

    Args:
        task: gives the metrics.
        named: the teacher, or how several are one.
        teachers: the teachers by name.
        deployed: the student.
        asked: what the teachers are asked.
        own: the same, as the student reads it.

    Returns:
        The models, the exports, and what each model said.
    """
    torch_models = _teachers(task, named, teachers) | {"student": deployed.model}
    if deployed.precision != "float32":
        torch_models["student in bfloat16"] = deepcopy(deployed.model).to(torch.bfloat16)
    runners: dict[str, Predict] = {name: torch_predict(model) for name, model in torch_models.items()}
    if deployed.export:
        runners["export"] = deployed.export.predict
    read = {name: asked if name.startswith("teacher") else own for name in runners}
    samples = {key: {name: read[name].samples[key] for name in runners} for key in own.samples}
    times = {key: latencies(runners, batches) for key, batches in samples.items()}
    found = {
        name: deployed.judged if name == "student" else judged(task, run, read[name].batches)
        for name, run in runners.items()
    }
    held, models = _stored(teachers), {}
    for name, model in torch_models.items():
        parameters, nonzero = sizes(model)
        models[name] = Measured(
            found[name].metrics,
            parameters,
            nonzero,
            round(parameters * (held[name].bytes_each if name in held else model.dtype.itemsize)),
            flops(model, samples["batch_1"][name]),
            {key: times[key][name] for key in samples},
            precision=held[name].precision if name in held else str(model.dtype).removeprefix("torch."),
        )
    if not deployed.export:
        return models, [], found
    folded, answered = models["student"], {key: times[key]["export"] for key in samples}
    export = _export(deployed, found["export"], answered, in_half=2 * folded.parameters)
    export.batch_dependence = batch_dependence(task, deployed.export.predict, own.alone)
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
    return models, [export], found


def _stored(teachers: dict[str, FrozenTeacher]) -> dict[str, Stored]:
    """How the files of the teachers hold them, by the name in the report; of several the average over their numbers."""
    if not teachers:
        return {}
    counts = [teacher.model.num_parameters() for teacher in teachers.values()]
    held = [teacher.stored for teacher in teachers.values()]
    each = sum(n * stored.bytes_each for n, stored in zip(counts, held, strict=True)) / sum(counts)
    named = {f"teacher {name}": teacher.stored for name, teacher in teachers.items()}
    return named | {"teacher": Stored(", ".join(dict.fromkeys(stored.precision for stored in held)), each)}


def _teachers(
    task: Task, named: Teacher | Teachers | None, teachers: dict[str, FrozenTeacher]
) -> dict[str, PreTrainedModel | Joint]:
    """The teacher; of several, what they say together, and each."""
    for teacher in teachers.values():
        teacher.recorder.close()
        teacher.model.cpu()
    models = {name: teacher.model for name, teacher in teachers.items()}
    if not isinstance(named, Teachers):
        return models
    joint = {"teacher": Joint(models, named.shares(), named.choose, task)}
    # A teacher of one task cannot be judged on all.
    alone = {} if named.choose == "task" else models
    return joint | {f"teacher {name}": model for name, model in alone.items()}


def deployable(export: Export, folded: Measured) -> bool:
    """Whether a file counts as the student: if it is no larger than the folded one in torch, but for the graph that it
    holds beside the weights (a hundredth)."""
    return export.bytes < 1.01 * folded.bytes


def _export(deployed: Deployed, found: Judged, latency_ms: dict[str, float], in_half: int) -> Export:
    """The export, and what it said; ``in_half`` are the bytes of the student in bfloat16."""
    size, precision = deployed.export.path.stat().st_size, deployed.precision
    # A file no smaller than bfloat16 is not called int8, whatever is inside.
    if size >= in_half and precision != "float32":
        precision = f"partly {precision}"
    return Export(
        format=deployed.export.format,
        path=deployed.export.path.name,
        bytes=size,
        metrics=found.metrics,
        latency_ms=latency_ms,
        agreement=agreement(found.predictions, deployed.judged.predictions),
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


def details(
    task: Task, judged: dict[str, Judged], rows: list[int], deployed: Deployed, skipped: list[str], show: int = 12
) -> dict:
    """What the page shows beyond report.json: layers, agreement over classes, and the rows on which teacher and
    student differ most.

    Args:
        task: puts predictions in words.
        judged: what the models said.
        rows: the numbers of the validation rows, in the order in which they were asked about.
        deployed: the student.
        skipped: what pruning and quantization left out.
        show: how many rows.
    """
    found = {"layers": deployed.layers, "skipped": skipped + deployed.notes}
    if "teacher" not in judged:
        return found
    teacher, student = judged["teacher"], judged.get("export", judged["student"])
    # A text in more pieces may have lost its last words.
    same = len(teacher.predictions) == len(student.predictions)
    if task.classes and teacher.certainty is not None and same:
        names = task.classes.names
        counts = torch.zeros(len(names), len(names), dtype=torch.long)
        pairs = teacher.predictions, student.predictions
        counts.index_put_(pairs, torch.ones((), dtype=torch.long), accumulate=True)
        found["agreement"] = {"labels": names, "counts": counts.tolist()}
    # Not one for each row of the data: there may be many in a row, and rows that are pieces of several.
    if task.validation is None or not same or not len(teacher.predictions) == len(rows) == len(task.validation):
        return found
    found["examples"] = []
    for i in apart(teacher, student).argsort(descending=True)[:show].tolist():
        row = task.validation[rows[i]]
        said = [task.words(model.predictions[i], row) for model in (teacher, student)]
        if None in said:
            return found
        sure = [None if model.certainty is None else float(model.certainty[i]) for model in (teacher, student)]
        words = {"text": task.shown(row), "label": task.truth(row), "teacher": said[0], "student": said[1]}
        found["examples"].append(words | {"teacher_probability": sure[0], "student_probability": sure[1]})
    return found


def apart(one: Judged, other: Judged) -> Tensor:
    """How far apart two models are in each prediction, [N]: the difference of numbers; of classes that of the
    probabilities, and different classes are further apart the surer both are.
    """
    if one.certainty is None:
        return (one.predictions - other.predictions).abs()
    differ = one.predictions != other.predictions
    return torch.where(differ, one.certainty + other.certainty, (one.certainty - other.certainty).abs() - 2)
