"""Warnings of the report: a student no better than the baseline, a sparsity not reached, other logits after export."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields

import torch
from torch import Tensor

from distill.evaluation.baseline import baseline_metrics
from distill.evaluation.deployed import DeployedStudent, ExportStats
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.measure import EvalResult, ModelStats
from distill.experiment.experiment import Experiment
from distill.tasks.task import Task
from losses.loss import label_mask
from prune_schedules.schedule import Constant, Schedule, Timeline

SPARSITY_TOLERANCE = 0.02
"""The sparsity may fall short of its target by this much, as whole units are removed."""
MIN_LOGGED_STEPS = 20
"""The number of logged steps needed to tell whether a loss fell."""

MAX_CLASSES = 10
"""The number of classes that a warning names."""


def no_better_than_baseline(name: str, model: ModelStats, baseline: dict[str, float]) -> list[str]:
    """Return a warning for each metric in which a model is no better than a constant prediction."""
    warnings = []
    for metric, value in baseline.items():
        score = model.metrics.get(metric, math.nan)
        better = score < value if metric == "perplexity" else score > value
        if not better:
            warnings.append(
                f"the {name} is no better than a constant prediction: {metric} {score:.4f}, and {value:.4f}"
            )
    return warnings


def constant_predictions(task: Task, result: EvalResult, batches: list[dict[str, Tensor]]) -> list[str]:
    """Return a warning if all predictions of the student are the same although the labels differ."""
    predictions = result.predictions
    if len(task.parts) > 1 or len(predictions) < 2 or "labels" not in batches[0]:
        return []
    labels = torch.cat([batch["labels"][label_mask(batch)].flatten() for batch in batches])
    if len(labels) < 2 or (labels == labels[0]).all():
        return []
    spread = float((predictions.float().amax(0) - predictions.float().amin(0)).max())
    limit = 0.01 * float(labels.float().std()) if predictions.is_floating_point() else 0.0
    if not spread <= limit:
        return []
    first = predictions[0]
    if task.is_multi_label:
        text = repr(task.prediction_text(first, {}))
    else:
        text = f"{task.classes.names[int(first)]!r}" if task.classes and limit == 0 else f"{float(first):.4g}"
    return [f"all {len(predictions)} predictions of the student on validation are the same, {text}"]


def classes_never_predicted(task: Task, student: EvalResult, teacher: EvalResult | None) -> list[str]:
    """Return a warning for the classes with labels that the student never predicts, though the teacher does."""
    if len(task.parts) > 1 or not task.classes or student.labels is None or student.labels.is_floating_point():
        return []
    names, missing = task.classes.names, []
    _, labels, predictions = student.class_counts(len(names))
    right, teacher_labels, teacher_predictions = (teacher or student).class_counts(len(names))
    for i, count in enumerate(labels.tolist()):
        if not count or predictions[i] or (teacher and not teacher_predictions[i]):
            continue
        text = f"{names[i]!r} ({count:,} label{'s' * (count > 1)} in validation"
        if teacher:
            text += f", recall of the teacher {float(right[i] / teacher_labels[i]):.2f}"
        missing.append((count, text + ")"))
    if not missing:
        return []
    texts = [text for _, text in sorted(missing, key=lambda entry: -entry[0])]
    more = [f"{len(texts) - MAX_CLASSES} more"] * (len(texts) > MAX_CLASSES)
    noun = "classes" if len(texts) > 1 else "class"
    return [f"the student never predicts the {noun} {', '.join(texts[:MAX_CLASSES] + more)}"]


def losses_not_falling(experiment: Experiment, rows: Iterable[dict[str, float | None]]) -> list[str]:
    """Return a warning for each loss whose mean over the last tenth of its logged steps is no less than over the first.

    Pruning, quantization and block replacement may let a loss rise again; then any later tenth counts. A loss with a
    schedule besides its weight, as of a temperature, changes at each step and is left out.
    """
    is_compressed, warnings = bool(experiment.prune or experiment.quantize or experiment.replace), []
    for name, loss in experiment.losses.items():
        values = [getattr(loss, field.name) for field in fields(loss) if field.name != "weight"]
        if any(isinstance(value, Schedule) and not isinstance(value, Constant) for value in values):
            continue
        curve, weight = f"train/{name}", f"train/{name}_weight"
        logged = [row[curve] for row in rows if row.get(weight) and row.get(curve) is not None]
        if len(logged) < MIN_LOGGED_STEPS:
            continue
        size = len(logged) // 10
        tenths = [sum(logged[i : i + size]) / size for i in range(0, size * 10, size)]
        tenths[-1] = sum(logged[-size:]) / size
        if (min(tenths[1:]) if is_compressed else tenths[-1]) >= tenths[0]:
            warnings.append(f"the loss {name!r} never fell: {tenths[0]:.4g} at first, {tenths[-1]:.4g} in the end")
    return warnings


def sparsity_not_reached(
    experiment: Experiment, timeline: Timeline, removed: dict[str, float], layers: list[dict]
) -> list[str]:
    """Return a warning for each pruner that missed its target: of units, or of weights in the saved student."""
    warnings, by_name = [], {layer["name"]: layer for layer in layers}
    for name, pruner in experiment.pruners().items():
        target, reached = pruner.sparsity.value(timeline.total_steps, timeline), removed[name]
        units = pruner.shape if isinstance(pruner.shape, str) else "tiles"
        pruned = [by_name[weight] for weight in pruner.weights if weight in by_name]
        if units in ("elements", "tiles") and pruned:
            before = sum(layer["parameters_before"] for layer in pruned)
            left = sum(layer["parameters"] * (1 - layer["sparsity"]) for layer in pruned)
            reached = min(reached, 1 - left / max(before, 1))
        if reached < target - SPARSITY_TOLERANCE:
            warnings.append(f"{name}: {target:.1%} of the {units} were to be removed, {reached:.1%} are")
    return warnings


def oversized_exports(layers: list[dict], parameters: int, exports: list[ExportStats]) -> list[str]:
    """Return a warning for each file that is larger than its weights in the bits they were trained for."""
    matrices = sum(layer["parameters"] for layer in layers)
    bits = sum(layer["parameters"] * (layer["bits"] or 0) for layer in layers) + 32 * max(parameters - matrices, 0)
    limit = 1.25 * bits / 8 + 200_000  # a graph, names, scales
    return [
        f"{export.path} takes {export.bytes:,} bytes, and its weights {bits // 8:,.0f} in the bits they are trained for"
        for export in exports
        if export.bytes > limit
    ]


def changed_outputs(exports: list[ExportStats], deployed: DeployedStudent) -> list[str]:
    """Return a warning for each step of the export after which the predictions differ from those in training."""
    # Quantized activations may turn a difference in the last bit into one of a whole step; quantized weights do not.
    limits = {"folded": 1e-4}
    if deployed.exact:
        limits |= {"cut": 1e-3, "vocabulary": 1e-3, "exported": 1e-3}
    warnings = [
        f"the {state} student's logits differ by up to {deployed.parity[state]:.1g} from those in training"
        for state, limit in limits.items()
        if not deployed.parity.get(state, 0) <= limit
    ]
    return warnings + [
        f"{export.path} agrees with the student in torch on {export.agreement:.1%} of the validation rows only"
        for export in exports
        if export.agreement < 0.995
    ]


def report_warnings(
    experiment: Experiment,
    timeline: Timeline,
    rows: list[dict[str, float | None]],
    batches: list[dict[str, Tensor]],
    evaluation: Evaluation,
    deployed: DeployedStudent,
    removed: dict[str, float],
    teacher_is_scored: bool = False,
) -> list[str]:
    """Return all warnings about the result, the worst first.

    Args:
        experiment: the config of the run.
        timeline: the length of the run.
        rows: the rows of metrics.csv.
        batches: validation batches in the deployed student's tokens.
        evaluation: the measurements and predictions.
        deployed: the student.
        removed: the share of units removed by each pruner, from ``training.train.removed_units``.
        teacher_is_scored: whether the preflight has scored the teacher already.
    """
    task, baseline = experiment.task, baseline_metrics(experiment.task, batches)
    models, exports = evaluation.models, evaluation.exports
    student = evaluation.deployed_result
    is_checked = "teacher" in models and not teacher_is_scored
    teacher_warnings = no_better_than_baseline("teacher", models["teacher"], baseline) if is_checked else []
    warnings = [
        *no_better_than_baseline("student", models["student"], baseline),
        *(
            constant_predictions(task, student, batches)
            or classes_never_predicted(task, student, evaluation.results.get("teacher"))
        ),
        *teacher_warnings,
        *losses_not_falling(experiment, rows),
        *sparsity_not_reached(experiment, timeline, removed, deployed.layers),
        *changed_outputs(exports, deployed),
        *(warning for export in exports for warning in export.warnings),
        *oversized_exports(deployed.layers, models["student"].parameters, exports),
    ]
    in_half = 2 * models["student"].parameters
    return warnings + [
        f"{export.path} takes {export.bytes} bytes, no less than the same model in bfloat16 ({in_half})"
        for export in exports
        if export.precision.startswith("partly")
    ]
