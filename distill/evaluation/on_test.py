"""Evaluate teacher and student on the test rows, once, after everything was chosen on validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from distill.evaluation.evaluate import EvalBatches
from distill.evaluation.intervals import intervals
from distill.evaluation.measure import difference, evaluate_model
from distill.evaluation.recorded import evaluate_recorded
from distill.tasks.task import Predict, Task
from distill.teachers.settings import TeacherSettings


@dataclass
class SplitMetrics:
    """The metrics on test rows, as in report.json.

    Args:
        rows: their number.
        metrics: by model and metric.
        intervals: the 95 % interval of each, [low, high].
        difference: the interval of student minus teacher by metric; empty without a teacher on the same rows.
    """

    rows: int
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, list[float]]]
    difference: dict[str, list[float]]


def evaluate_on_test(
    task: Task,
    settings: TeacherSettings | None,
    runners: dict[str, Predict],
    teacher_batches: EvalBatches,
    student_batches: EvalBatches,
    thresholds: Mapping[str, float | None] = MappingProxyType({}),
) -> SplitMetrics:
    """Return the metrics on all test rows.

    Args:
        task: with its test rows in place of those of validation.
        settings: the config of the teacher.
        runners: the teacher, if there is one, and the student as it is deployed.
        teacher_batches: the test rows in the teacher's tokens.
        student_batches: the test rows in the student's tokens.
        thresholds: of decisions by model, chosen on validation rows, for a task that has them.
    """
    batches = {name: teacher_batches.batches if name == "teacher" else student_batches.batches for name in runners}
    results = evaluate_recorded(task, settings, teacher_batches.batches)
    results |= {
        name: evaluate_model(task.at_threshold(thresholds.get(name)), run, batches[name], resample=True)
        for name, run in runners.items()
    }
    replicates = {name: result.replicates for name, result in results.items()}
    return SplitMetrics(
        rows=sum(len(batch["input_ids"]) for batch in student_batches.batches),
        metrics={name: result.metrics for name, result in results.items()},
        intervals={name: intervals(values) for name, values in replicates.items()},
        difference=difference(results, results["student"]),
    )
