"""Details of the page beyond report.json: layers, agreement over classes, the rows on which models differ most."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.evaluation.deployed import DeployedStudent
from distill.evaluation.measure import EvalResult
from distill.tasks.task import Task


def page_details(
    task: Task,
    results: dict[str, EvalResult],
    rows: list[int],
    deployed: DeployedStudent,
    skipped: list[str],
    count: int = 12,
) -> dict:
    """Return layers, agreement over classes, and the rows on which teacher and student differ most.

    Args:
        task: turns predictions into text.
        results: the predictions by model.
        rows: the indices of the validation rows, in the order of the predictions.
        deployed: the student.
        skipped: weights and units that were not pruned or quantized.
        count: the number of rows to show.
    """
    details = {"layers": deployed.layers, "skipped": skipped + deployed.notes}
    if "teacher" not in results:
        return details
    teacher, student = results["teacher"], results.get("export", results["student"])
    # With another vocabulary a text may be truncated earlier, and have fewer predictions.
    has_same_rows = len(teacher.predictions) == len(student.predictions)
    if task.classes and teacher.confidences is not None and has_same_rows:
        names = task.classes.names
        counts = torch.zeros(len(names), len(names), dtype=torch.long)
        pairs = teacher.predictions, student.predictions
        counts.index_put_(pairs, torch.ones((), dtype=torch.long), accumulate=True)
        details["agreement"] = {"labels": names, "counts": counts.tolist()}
    # Examples need one prediction for each row of the data; a row may have many, or be split into several.
    if (
        task.validation is None
        or not has_same_rows
        or not len(teacher.predictions) == len(rows) == len(task.validation)
    ):
        return details
    details["examples"] = []
    models = {"teacher": teacher, "student": student}
    for i in disagreement(teacher, student).argsort(descending=True)[:count].tolist():
        row = task.validation[rows[i]]
        predictions = {name: task.prediction_text(model.predictions[i], row) for name, model in models.items()}
        if None in predictions.values():
            return details
        probabilities = {
            f"{name}_probability": None if model.confidences is None else float(model.confidences[i])
            for name, model in models.items()
        }
        texts = {"text": task.input_text(row), "label": task.label_text(row)}
        details["examples"].append(texts | predictions | probabilities)
    return details


def disagreement(teacher: EvalResult, student: EvalResult) -> Tensor:
    """Return the disagreement of two models in each prediction, [N].

    For numbers it is their difference. For classes, different predictions rank above equal ones: by the sum of the
    confidences, equal ones by their difference.
    """
    if teacher.confidences is None:
        return (teacher.predictions - student.predictions).abs()
    differ = teacher.predictions != student.predictions
    total, gap = teacher.confidences + student.confidences, (teacher.confidences - student.confidences).abs()
    return torch.where(differ, total, gap - 2)
