"""Details of the page beyond report.json: layers, quality by class and slice, calibration, agreement, changed rows."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor

from distill.evaluation.deployed import DeployedStudent
from distill.evaluation.measure import EvalResult
from distill.evaluation.slices import Slice, slice_quality
from distill.reporting.calibration import calibration
from distill.tasks.task import Task

MIN_EXAMPLES, MAX_EXAMPLES = 12, 150
"""The numbers of rows on the page, which is to stay below a megabyte."""


def page_details(
    task: Task,
    results: dict[str, EvalResult],
    rows: list[int],
    deployed: DeployedStudent,
    skipped: list[str],
    slices: list[Slice] | None = None,
) -> dict:
    """Return layers, quality by class and slice, calibration, agreement over classes, and the rows that changed.

    Args:
        task: turns predictions into text.
        results: the predictions by model.
        rows: the indices of the validation rows, in the order of the predictions.
        deployed: the student.
        skipped: weights and units that were not pruned or quantized.
        slices: of the validation rows.
    """
    details = {"layers": deployed.layers, "skipped": skipped + deployed.notes}
    student, teacher = results.get("export", results["student"]), results.get("teacher")
    models = ({"teacher": teacher} if teacher else {}) | {"student": student}
    labelled = {name: model for name, model in models.items() if task.classes and _has_classes(model)}
    if labelled:
        details["classes"] = {name: class_quality(model, task.classes.names) for name, model in labelled.items()}
        details["calibration"] = {
            name: calibration(model.confidences.flatten(), (model.predictions == model.labels).flatten())
            for name, model in labelled.items()
        }
    if slices:
        on_same_rows = {name: model for name, model in models.items() if model.rows == student.rows}
        details["slices"] = [asdict(quality) for quality in slice_quality(slices, on_same_rows)]
    # With another vocabulary a text may be truncated earlier, and have fewer predictions.
    if teacher is None or len(teacher.predictions) != len(student.predictions):
        return details
    # Rows with several labels have no single class of the teacher for each of the student.
    if task.classes and teacher.confidences is not None and not task.is_multi_label:
        names = task.classes.names
        counts = torch.zeros(len(names), len(names), dtype=torch.long)
        pairs = teacher.predictions, student.predictions
        counts.index_put_(pairs, torch.ones((), dtype=torch.long), accumulate=True)
        details["agreement"] = {"labels": names, "counts": counts.tolist()}
    # Examples need one prediction for each row of the data; a row may have many, or be split into several.
    if task.validation is not None and len(teacher.predictions) == len(rows) == len(task.validation):
        details |= changed_rows(task, models, rows)
    return details


def _has_classes(result: EvalResult) -> bool:
    return result.labels is not None and result.confidences is not None and not result.labels.is_floating_point()


def class_quality(result: EvalResult, names: list[str]) -> list[dict]:
    """Return precision, recall and F1 of each class, and its number of labels; None where one is not defined."""
    right, true, predicted = (counts.tolist() for counts in result.class_counts(len(names)))
    return [
        {
            "name": name,
            "rows": true[i],
            "precision": right[i] / predicted[i] if predicted[i] else None,
            "recall": right[i] / true[i] if true[i] else None,
            "f1": 2 * right[i] / (true[i] + predicted[i]) if true[i] + predicted[i] else None,
        }
        for i, name in enumerate(names)
    ]


def changed_rows(task: Task, models: dict[str, EvalResult], rows: list[int]) -> dict:
    """Return the rows on which teacher and student differ most, and the number that differ.

    Rows with equal predictions follow only where few differ; of numbers all may differ.
    """
    teacher, student = models["teacher"], models["student"]
    order, examples = disagreement(teacher, student).argsort(descending=True), []
    changed = int(differing_rows(teacher, student).sum())
    count = MIN_EXAMPLES if teacher.confidences is None else min(MAX_EXAMPLES, max(MIN_EXAMPLES, changed))
    for i in order[:count].tolist():
        row = task.validation[rows[i]]
        predictions = {name: task.prediction_text(model.predictions[i], row) for name, model in models.items()}
        if None in predictions.values():
            return {"examples": []}
        probabilities = {
            f"{name}_probability": None if model.confidences is None else float(model.confidences[i].prod())
            for name, model in models.items()
        }
        texts = {"text": task.input_text(row), "label": task.label_text(row)}
        examples.append(texts | predictions | probabilities)
    return {"examples": examples} | ({} if teacher.confidences is None else {"changed": changed, "rows": len(rows)})


def differing_rows(teacher: EvalResult, student: EvalResult) -> Tensor:
    """Return where two models differ, in any label, [N]."""
    return (teacher.predictions != student.predictions).reshape(len(teacher.predictions), -1).any(-1)


def disagreement(teacher: EvalResult, student: EvalResult) -> Tensor:
    """Return the disagreement of two models in each prediction, [N].

    For numbers it is their difference. For classes, different predictions rank above equal ones: by the sum of the
    confidences, equal ones by their difference. Of several labels of a row, that with the largest disagreement counts.
    """
    if teacher.confidences is None:
        return (teacher.predictions - student.predictions).abs()
    differ = teacher.predictions != student.predictions
    total, gap = teacher.confidences + student.confidences, (teacher.confidences - student.confidences).abs()
    return torch.where(differ, total, gap - 2).reshape(len(differ), -1).amax(-1)
