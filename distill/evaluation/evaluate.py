"""Evaluate: measure teacher, student and export side by side."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import dataclass, replace

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader

from distill.data.batches import Collator, sequential_batches
from distill.data.vocabulary import retokenize
from distill.evaluation.batch_dependence import PaddingSample, batch_dependence, padding_samples
from distill.evaluation.deployed import DeployedStudent, ExportedFile, ExportStats
from distill.evaluation.intervals import intervals
from distill.evaluation.measure import (
    EvalResult,
    ModelStats,
    agreement,
    count_flops,
    count_parameters,
    difference,
    evaluate_model,
    measure_latencies,
    torch_predict,
)
from distill.evaluation.recorded import evaluate_recorded, recorded_stats
from distill.evaluation.teachers import read_batches, reading, stored_teachers, teacher_models
from distill.tasks.task import Predict, Task
from distill.teachers.settings import TeacherSettings
from distill.teachers.teacher import FrozenTeacher
from students.tokenizer.vocabulary import Vocabulary


@dataclass
class EvalBatches:
    """The validation rows as batches, in the tokens of one vocabulary."""

    batches: list[dict[str, Tensor]]
    """All rows."""
    latency: dict[str, dict[str, Tensor]]
    """The batches for latencies, ``batch_1`` and ``batch_32``."""
    padding_samples: list[PaddingSample]
    """Some rows as padded batches and one by one."""

    @classmethod
    def of(cls, rows: Dataset, groups: list[list[int]], chosen: dict[str, list[int]], collate: Collator) -> EvalBatches:
        """Return batches of all rows, in ``groups``, and of the chosen rows, for latencies."""
        latency = {name: collate([rows[i] for i in numbers]) for name, numbers in chosen.items()}
        batches = list(DataLoader(rows, batch_sampler=groups, collate_fn=collate))
        return cls(batches, latency, padding_samples(rows, groups, collate))

    def read_by(self, teachers: dict[str, FrozenTeacher], name: str) -> EvalBatches:
        """Return the batches as the teacher of this name in the report reads them."""
        latency = dict(zip(self.latency, read_batches(teachers, name, list(self.latency.values())), strict=True))
        return replace(self, batches=read_batches(teachers, name, self.batches), latency=latency)


def eval_batches(
    task: Task, rows: Dataset, collate: Collator, vocabulary: Vocabulary | None, world: int = 1
) -> tuple[EvalBatches, EvalBatches]:
    """Return the validation rows in the teachers' tokens and in the student's, whose vocabulary may be smaller.

    One process evaluates all rows, in batches no larger than those it had among ``world`` processes in training.
    """
    groups, chosen = sequential_batches(task.row_groups(rows), -(-2 * task.batch_size // world)), latency_rows(rows)
    teacher_batches = EvalBatches.of(rows, groups, chosen, collate)
    if not vocabulary:
        return teacher_batches, teacher_batches
    student_rows = retokenize(task, rows, vocabulary.tokenizer)
    student_task = copy(task)
    student_task.tokenizer = vocabulary.tokenizer  # a task that pads in its batches does so by it
    return teacher_batches, EvalBatches.of(
        student_rows, groups, chosen, Collator(vocabulary.tokenizer, finalize=student_task.finalize_batch)
    )


@dataclass
class Evaluation:
    """The measurements of all models of a run."""

    models: dict[str, ModelStats]
    exports: list[ExportStats]
    results: dict[str, EvalResult]
    """Predictions and metrics of each model, and of the ``export``."""
    runners: dict[str, Predict]
    """The teacher, if there is one, and the student as it is deployed."""

    @property
    def deployed_result(self) -> EvalResult:
        """Return the result of what is served: the exported file's, if there is one."""
        return self.results.get("export", self.results["student"])

    @property
    def difference(self) -> dict[str, list[float]]:
        """Return the interval of student minus teacher by metric; empty without a teacher on the same rows."""
        return difference(self.results, self.deployed_result)


def evaluate(
    task: Task,
    settings: TeacherSettings | None,
    teachers: dict[str, FrozenTeacher],
    deployed: DeployedStudent,
    teacher_batches: EvalBatches,
    student_batches: EvalBatches,
    teacher_file: ExportedFile | None = None,
) -> Evaluation:
    """Measure all models on the CPU, on the same rows, with the same threads, in turn.

    Args:
        task: gives the metrics.
        settings: the config of the teacher, or of how several are combined.
        teachers: the teachers by name.
        deployed: the student.
        teacher_batches: the rows in the teachers' tokens.
        student_batches: the rows in the student's tokens.
        teacher_file: the teacher in the runtime of the student's export, of which only the latency is measured.
    """
    torch_models: dict = teacher_models(task, settings, teachers) | {"student": deployed.model}
    if deployed.precision != "float32":
        torch_models["student in bfloat16"] = deepcopy(deployed.model).to(torch.bfloat16)
    runners: dict[str, Predict] = {name: torch_predict(model) for name, model in torch_models.items()}
    if deployed.export:
        runners["export"] = deployed.export.predict
    timed = runners | ({f"teacher in {teacher_file.runtime}": teacher_file.predict} if teacher_file else {})
    eval_sets = {
        name: teacher_batches.read_by(teachers, name) if name.startswith("teacher") else student_batches
        for name in timed
    }
    inputs = {key: {name: eval_sets[name].latency[key] for name in timed} for key in student_batches.latency}
    times = {key: measure_latencies(timed, batches) for key, batches in inputs.items()}
    # All forms of the student have one threshold, so that they differ only as their logits do.
    student_task = task.at_threshold(deployed.result.threshold)
    results = {
        name: deployed.result
        if name == "student"
        else evaluate_model(
            task if name.startswith("teacher") else student_task, predict, eval_sets[name].batches, resample=True
        )
        for name, predict in runners.items()
    }

    def latencies(name: str) -> dict[str, dict]:
        return {
            "latency_ms": {key: times[key][name].median for key in inputs},
            "latency_spread_ms": {key: times[key][name].spread for key in inputs},
        }

    recorded = evaluate_recorded(task, settings, teacher_batches.batches)
    files, models = stored_teachers(teachers), {name: recorded_stats(result) for name, result in recorded.items()}
    for name, model in torch_models.items():
        parameters, nonzero = count_parameters(model)
        models[name] = ModelStats(
            metrics=results[name].metrics,
            parameters=parameters,
            nonzero_parameters=nonzero,
            bytes=round(parameters * (files[name].bytes_per_weight if name in files else model.dtype.itemsize)),
            flops_per_example=count_flops(model, inputs["batch_1"][name]),
            **latencies(name),
            precision=files[name].precision if name in files else str(model.dtype).removeprefix("torch."),
            latency_tokens={key: inputs[key][name]["input_ids"].shape[1] for key in inputs},
            intervals=intervals(results[name].replicates),
            threshold=results[name].threshold,
        )
    if teacher_file:
        models[f"teacher in {teacher_file.runtime}"] = replace(
            models["teacher"],
            metrics={},
            intervals={},
            bytes=teacher_file.path.stat().st_size,
            runtime=teacher_file.runtime,
            precision="float32",
            **latencies(f"teacher in {teacher_file.runtime}"),
        )
    final = {name: reading(teachers, name, runners[name]) for name in ("teacher", "student") if name in runners}
    if not deployed.export:
        return Evaluation(models, [], recorded | results, final)
    folded = models["student"]
    export = _export(deployed, results["export"], latencies("export"), in_half=2 * folded.parameters)
    export.batch_dependence = batch_dependence(student_task, deployed.export.predict, student_batches.padding_samples)
    export.is_deployed = is_deployable(export, folded)
    if export.is_deployed:
        models["student"] = replace(
            folded,
            metrics=export.metrics,
            intervals=export.intervals,
            bytes=export.bytes,
            runtime=deployed.export.runtime,
            precision=export.precision,
            **latencies("export"),
        )
        models["student in torch"] = folded
        final["student"] = deployed.export.predict
    return Evaluation(models, [export], recorded | results, final)


def is_deployable(export: ExportStats, folded: ModelStats) -> bool:
    """Return whether a file is deployed as the student: it is at most 1 % (its graph) larger than the one in torch."""
    return export.bytes < 1.01 * folded.bytes


def _export(deployed: DeployedStudent, result: EvalResult, latencies: dict[str, dict], in_half: int) -> ExportStats:
    """Return the measurements of the export; ``in_half`` are the bytes of the student in bfloat16."""
    size, precision = deployed.export.path.stat().st_size, deployed.precision
    # A file no smaller than bfloat16 is not called int8.
    if size >= in_half and precision != "float32":
        precision = f"partly {precision}"
    return ExportStats(
        format=deployed.export.format,
        path=deployed.export.path.name,
        bytes=size,
        metrics=result.metrics,
        **latencies,
        intervals=intervals(result.replicates),
        agreement=agreement(result.predictions, deployed.result.predictions),
        largest_difference=deployed.parity["exported"],
        precision=precision,
        departures=deployed.export.departures,
    )


def latency_rows(rows: Dataset) -> dict[str, list[int]]:
    """Return one row of median length, and the 32 rows nearest to it in length, repeated if there are fewer."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    middle, half = len(order) // 2, min(16, len(order) // 2)
    return {
        "batch_1": [order[middle]],
        "batch_32": [order[(middle - half + i) % len(order)] for i in range(32)],
    }
