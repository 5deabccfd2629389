"""After training: teacher, student and export are measured side by side, and the result is reported."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor

from distill.deploy import Deployed
from distill.ensemble import Joint, Teachers
from distill.measure import Measured, Predict, agreement, flops, latencies, logits_of, metrics_of, sizes, torch_predict
from distill.report import Export
from distill.tasks import Task
from distill.teacher import FrozenTeacher, Teacher
from quant_aware.onnx import file_bytes


def measure(
    task: Task,
    named: Teacher | Teachers | None,
    teachers: dict[str, FrozenTeacher],
    deployed: Deployed,
    folder: Path,
    batches: list[dict[str, Tensor]],
    samples: dict[str, dict[str, Tensor]],
) -> tuple[dict[str, Measured], list[Export], dict[str, Tensor]]:
    """Everything on the CPU, on the same rows, with the same threads, in turn.

    Args:
        task: gives the metrics.
        named: the teacher, or how several are one.
        teachers: the teachers by name.
        deployed: the student.
        folder: of the run, where the exported file lies.
        batches: all validation rows.
        samples: the batches on which latency is measured, ``batch_1`` and ``batch_32``.

    Returns:
        The models, the exports, and the logits of each model on all rows.
    """
    torch_models = {"student": deployed.model}
    if deployed.precision.startswith("int"):
        torch_models["student in bfloat16"] = deepcopy(deployed.model).to(torch.bfloat16)
    for teacher in teachers.values():
        teacher.recorder.close()
        teacher.model.cpu()
    if isinstance(named, Teachers):
        joint = Joint([teacher.model for teacher in teachers.values()], named.shares(), named.choose)
        each = {f"teacher {name}": teacher.model for name, teacher in teachers.items()}
        torch_models = {"teacher": joint} | each | torch_models
    elif teachers:
        torch_models = {"teacher": teachers["teacher"].model} | torch_models
    runners: dict[str, Predict] = {name: torch_predict(model) for name, model in torch_models.items()}
    if deployed.export:
        runners["export"] = deployed.export
    times = {name: latencies(runners, batch) for name, batch in samples.items()}
    labels = torch.cat([batch["labels"] for batch in batches])
    logits = {
        name: deployed.logits if name == "student" else logits_of(run, batches)[0] for name, run in runners.items()
    }
    models = {}
    for name, model in torch_models.items():
        parameters, nonzero = sizes(model)
        models[name] = Measured(
            metrics_of(task, logits[name], labels),
            parameters,
            nonzero,
            parameters * model.dtype.itemsize,
            flops(model, samples["batch_1"]),
            {key: times[key][name] for key in samples},
            precision=str(model.dtype).removeprefix("torch."),
        )
    if not deployed.export:
        return models, [], logits
    path = folder / "student.onnx"
    size, in_half = file_bytes(path), 2 * models["student"].parameters
    export = Export(
        format="onnx",
        path=path.name,
        bytes=size,
        metrics=metrics_of(task, logits["export"], labels),
        latency_ms={key: times[key]["export"] for key in samples},
        agreement=agreement(task, logits["export"], deployed.logits),
        largest_difference=deployed.parity["exported"],
        # A file no smaller than bfloat16 is not called int8, whatever is inside.
        precision=deployed.precision
        if size < in_half or deployed.precision == "float32"
        else f"partly {deployed.precision}",
    )
    folded = models["student"]
    # The file one would deploy counts as the student, as long as it is the smaller one.
    if export.bytes < folded.bytes:
        models["student"] = Measured(
            export.metrics,
            folded.parameters,
            folded.nonzero_parameters,
            export.bytes,
            folded.flops_per_example,
            export.latency_ms,
            "onnxruntime",
            export.precision,
        )
        models["student in torch"] = folded
    return models, [export], logits


def latency_samples(rows: Dataset, collate: Callable) -> dict[str, dict[str, Tensor]]:
    """One row of the median length, and the 32 rows nearest to it, as batches."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    middle, half = len(order) // 2, min(16, len(order) // 2)
    return {
        "batch_1": collate([rows[order[middle]]]),
        "batch_32": collate([rows[i] for i in order[middle - half : middle + half]]),
    }


def details(
    task: Task,
    table: Dataset,
    texts: list[str],
    labels: list[str],
    logits: dict[str, Tensor],
    deployed: Deployed,
    skipped: list[str],
    show: int = 12,
) -> dict:
    """What the page shows beyond report.json: layers, agreement over classes, and the rows on which teacher and
    student differ most.
    """
    found = {"layers": deployed.layers, "skipped": skipped + deployed.notes}
    if "teacher" not in logits:
        return found
    student = logits.get("export", logits["student"])
    if task.problem == "regression":
        apart = (student - logits["teacher"]).abs().squeeze(-1)
        named, sure = [[f"{float(x):.2f}" for x in z.squeeze(-1)] for z in (logits["teacher"], student)], [None, None]
    else:
        p, q = logits["teacher"].softmax(-1), student.softmax(-1)
        apart = (p - q).abs().sum(-1)
        named, sure = [[labels[i] for i in z.argmax(-1)] for z in (p, q)], [z.max(-1).values.tolist() for z in (p, q)]
        counts = torch.zeros(len(labels), len(labels), dtype=torch.long)
        counts.index_put_((p.argmax(-1), q.argmax(-1)), torch.ones((), dtype=torch.long), accumulate=True)
        found["agreement"] = {"labels": labels, "counts": counts.tolist()}
    found["examples"] = [
        {
            "text": " · ".join(str(table[i][column]) for column in texts),
            "label": label_text(table[i][task.label], labels),
            "teacher": named[0][i],
            "student": named[1][i],
            "teacher_probability": sure[0] and sure[0][i],
            "student_probability": sure[1] and sure[1][i],
        }
        for i in apart.argsort(descending=True)[:show].tolist()
    ]
    return found


def label_text(label: object, labels: list[str]) -> str:
    """A label of the data as a text."""
    return labels[label] if isinstance(label, int) and len(labels) > 1 else str(label)
