"""Report: write measurements and warnings as report.json, the page, and results for the trackers."""

from __future__ import annotations

import time
from datetime import datetime

from distill.config.schema import yaml_name
from distill.evaluation.deployed import DeployedStudent
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.machine import command_line
from distill.reporting.details import page_details
from distill.reporting.publish import publish
from distill.reporting.report import Report
from distill.reporting.report_warnings import report_warnings
from distill.training.callbacks.metrics_csv import read_rows
from distill.training.prepare.prepare import PreparedRun
from distill.training.timeline import early_quantization_warnings
from distill.training.train import TrainResult
from prune_schedules.scores.fixed_mask import lost_zeros_warning
from students.weights import count_nonzeros


def write_report(
    prepared: PreparedRun,
    trained: TrainResult,
    deployed: DeployedStudent,
    evaluation: Evaluation,
    student_batches: list[dict],
    started: float,
) -> Report:
    """Write the report of a run, which marks it as done.

    Args:
        prepared: the run before its first step.
        trained: the result of training.
        deployed: the student.
        evaluation: the measurements.
        student_batches: validation batches in the deployed student's tokens.
        started: the start of the run, in seconds since the epoch.
    """
    experiment, plan, task = prepared.experiment, prepared.plan, prepared.experiment.task
    warnings = report_warnings(
        experiment,
        plan.timeline,
        read_rows(prepared.folder / "metrics.csv"),
        student_batches,
        evaluation,
        deployed,
        trained.removed,
        teacher_is_scored=bool(plan.preflight.scores),
    )
    report = Report(
        name=experiment.name,
        task=yaml_name(type(task)),
        main_metric=task.main_metric,
        started=datetime.fromtimestamp(started).isoformat(timespec="seconds"),
        seconds=round(time.time() - started, 1),
        command=command_line(),
        seed=experiment.seed,
        models=evaluation.models,
        timeline=plan.entries,
        exports=evaluation.exports,
        parity=deployed.parity,
        warnings=[
            *plan.preflight.warnings,
            *prepared.parts.warnings,
            *trained.warnings,
            *early_quantization_warnings(experiment, plan.timeline),
            *warnings,
            *lost_zeros_warning(prepared.nonzeros, count_nonzeros(deployed.model)),
        ],
        notes=trained.notes + deployed.report_notes,
        preflight=plan.preflight.to_json(),
        folder=prepared.folder,
    )
    rows = prepared.validation_rows["row"]
    publish(report, page_details(task, evaluation.results, rows, deployed, trained.skipped), plan.trainer.loggers)
    return report
