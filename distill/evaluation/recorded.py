"""Evaluate a teacher without a model: its outputs are in the data."""

from __future__ import annotations

from operator import itemgetter

from distill.evaluation.intervals import intervals
from distill.evaluation.measure import EvalResult, ModelStats, evaluate_model
from distill.tasks.soft_labels import KEY
from distill.tasks.task import Task
from distill.teachers.settings import TeacherSettings
from students.recording.batch import Batch


def evaluate_recorded(task: Task, settings: TeacherSettings | None, batches: list[Batch]) -> dict[str, EvalResult]:
    """Return the result of the ``teacher`` on the rows that hold its outputs; empty if there are none.

    Args:
        task: gives the metrics.
        settings: the config of the teacher.
        batches: all rows.
    """
    recorded = settings.recorded_batches(batches) if settings else []
    return {"teacher": evaluate_model(task, itemgetter(KEY), recorded, resample=True)} if recorded else {}


def recorded_stats(result: EvalResult) -> ModelStats:
    """Return the measurements of a teacher without a model: metrics, and neither size nor latency."""
    return ModelStats(
        metrics=result.metrics,
        parameters=None,
        nonzero_parameters=None,
        bytes=None,
        flops_per_example=None,
        runtime="recorded outputs",
        precision="",
        intervals=intervals(result.replicates),
    )
