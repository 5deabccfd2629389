"""Report: write measurements and warnings as report.json, the page, and results for the trackers."""

from __future__ import annotations

from datetime import datetime

from distill.config.schema import yaml_name
from distill.evaluation.baseline import baseline_metrics
from distill.evaluation.deployed import DeployedStudent
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.machine import command_line
from distill.evaluation.on_test import SplitMetrics
from distill.evaluation.slices import find_slices
from distill.export.serving.deployment import Deployment
from distill.reporting.comparison.replicates import write_replicates
from distill.reporting.details import page_details
from distill.reporting.model_card import write_model_card
from distill.reporting.publish import publish
from distill.reporting.report import Report
from distill.reporting.report_warnings import report_warnings
from distill.tasks.task import Task
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
    test_metrics: SplitMetrics | None = None,
) -> Report:
    """Write the report of a run, which marks it as done.

    Args:
        prepared: the run before its first step.
        trained: the result of training.
        deployed: the student.
        evaluation: the measurements.
        student_batches: validation batches in the deployed student's tokens.
        test_metrics: the metrics on test rows, if there are any.
    """
    experiment, plan, task = prepared.experiment, prepared.plan, prepared.experiment.task
    clock = prepared.start.clock
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
        started=datetime.fromtimestamp(clock.started).isoformat(timespec="seconds"),
        seconds=round(clock.seconds, 1),
        command=command_line() or f"python train.py --config {prepared.folder.name}/config.yaml",
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
        notes=trained.notes + deployed.report_notes + threshold_notes(task, evaluation),
        baseline=baseline_metrics(task, student_batches),
        difference=evaluation.difference,
        test=test_metrics,
        preflight=plan.preflight.to_json(),
        folder=prepared.folder,
    )
    columns = {name: facts.files[0].columns_used for name, facts in plan.preflight.data.items()}
    classes = {name: part.classes for name, part in task.parts.items()}
    labels = {name: part.outputs if part and part.labels() else {} for name, part in classes.items()}
    served = task.at_threshold(evaluation.deployed_result.threshold)
    Deployment(imports=experiment.imports, task=served, columns=columns, labels=labels, name=experiment.name).write(
        prepared.folder / "student"
    )
    write_model_card(report, task, deployed.is_stock)
    rows = prepared.validation_rows["row"]
    write_replicates(prepared.folder, task, rows, evaluation.deployed_result.replicates)
    slices = find_slices(task, prepared.validation_rows)
    details = page_details(task, evaluation.results, rows, deployed, trained.skipped, slices)
    publish(report, details, plan.trainer.loggers)
    return report


def threshold_notes(task: Task, evaluation: Evaluation) -> list[str]:
    """Return a note on the thresholds from which labels hold, if a row may have several."""
    thresholds = {
        name: evaluation.models[name].threshold for name in ("teacher", "student") if name in evaluation.models
    }
    if not task.is_multi_label:
        return []
    values = ", ".join(f"{value:.2f} ({name})" for name, value in thresholds.items())
    how = "as task.threshold says" if task.decision_threshold else "with the best micro F1 on validation rows"
    return [f"a label holds from a probability of {values}, {how}"]
