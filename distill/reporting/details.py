"""What the page shows beyond report.json: layers, agreement over classes, the rows on which the models differ most."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.evaluation.deployed import Deployed
from distill.evaluation.measure import EvalResult
from distill.tasks.task import Task


def details(
    task: Task, results: dict[str, EvalResult], rows: list[int], deployed: Deployed, skipped: list[str], show: int = 12
) -> dict:
    """What the page shows beyond report.json: layers, agreement over classes, and the rows on which teacher and
    student differ most.

    Args:
        task: puts predictions in words.
        results: the predictions by model.
        rows: the numbers of the validation rows, in the order of the predictions.
        deployed: the student.
        skipped: what pruning and quantization left out.
        show: how many rows.
    """
    found = {"layers": deployed.layers, "skipped": skipped + deployed.notes}
    if "teacher" not in results:
        return found
    teacher, student = results["teacher"], results.get("export", results["student"])
    # A text in more pieces may have lost its last words.
    same = len(teacher.predictions) == len(student.predictions)
    if task.classes and teacher.confidences is not None and same:
        names = task.classes.names
        counts = torch.zeros(len(names), len(names), dtype=torch.long)
        pairs = teacher.predictions, student.predictions
        counts.index_put_(pairs, torch.ones((), dtype=torch.long), accumulate=True)
        found["agreement"] = {"labels": names, "counts": counts.tolist()}
    # Not one for each row of the data: there may be many in a row, and rows that are pieces of several.
    if task.validation is None or not same or not len(teacher.predictions) == len(rows) == len(task.validation):
        return found
    found["examples"] = []
    for i in disagreement(teacher, student).argsort(descending=True)[:show].tolist():
        row = task.validation[rows[i]]
        said = [task.prediction_text(model.predictions[i], row) for model in (teacher, student)]
        if None in said:
            return found
        sure = [None if model.confidences is None else float(model.confidences[i]) for model in (teacher, student)]
        words = {"text": task.input_text(row), "label": task.label_text(row), "teacher": said[0], "student": said[1]}
        found["examples"].append(words | {"teacher_probability": sure[0], "student_probability": sure[1]})
    return found


def disagreement(one: EvalResult, other: EvalResult) -> Tensor:
    """How far apart two models are in each prediction, [N]: the difference of numbers; of classes that of the
    probabilities, and different classes are further apart the surer both are.
    """
    if one.confidences is None:
        return (one.predictions - other.predictions).abs()
    differ = one.predictions != other.predictions
    return torch.where(differ, one.confidences + other.confidences, (one.confidences - other.confidences).abs() - 2)
