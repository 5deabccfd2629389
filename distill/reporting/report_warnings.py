"""What a reader of the figures must know: a student that learnt nothing, a form that was not reached, other logits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields

import torch
from torch import Tensor

from distill.evaluation.baseline import naive_metrics
from distill.evaluation.deployed import Deployed, Export
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.measure import EvalResult, Measured
from distill.experiment.experiment import Experiment
from distill.tasks.task import Task
from losses.loss import label_mask
from prune_schedules.schedule import Constant, Schedule, Timeline

SHORT_OF = 0.02
"""How much less of the weights or units may be gone than was asked: units are whole ones."""
ROWS = 20
"""Logged steps of a loss that are needed to say whether it fell."""


def learnt_nothing(name: str, model: Measured, naive: dict[str, float]) -> list[str]:
    """Return a line for each metric in which a model is no better than one that reads nothing."""
    warnings = []
    for metric, value in naive.items():
        score = model.metrics.get(metric, math.nan)
        better = score < value if metric == "perplexity" else score > value
        if not better:
            what = "a model that reads nothing" if value else "a constant answer"
            warnings.append(f"the {name} is no better than {what}: {metric} {score:.4f}, and {value:.4f}")
    return warnings


def always_the_same(task: Task, result: EvalResult, batches: list[dict[str, Tensor]]) -> list[str]:
    """Return a line if a student gives one answer to all rows, although their labels differ."""
    predictions = result.predictions
    if len(task.parts) > 1 or len(predictions) < 2 or "labels" not in batches[0]:
        return []
    labels = torch.cat([batch["labels"][label_mask(batch)].flatten() for batch in batches])
    if len(labels) < 2 or (labels == labels[0]).all():
        return []
    spread = float(predictions.float().max() - predictions.float().min())
    limit = 0.01 * float(labels.float().std()) if predictions.is_floating_point() else 0.0
    if not spread <= limit:
        return []
    first = predictions[0]
    answer = f"{task.classes.names[int(first)]!r}" if task.classes and limit == 0 else f"{float(first):.4g}"
    return [f"the student gives the same answer, {answer}, to all {len(predictions)} that are asked on validation"]


def never_fell(experiment: Experiment, rows: Iterable[dict[str, float | None]]) -> list[str]:
    """Return a line for each loss whose mean over the last tenth of its logged steps is no less than over the first.

    What is pruned, rounded or replaced meanwhile lets a loss rise again; then it is any later tenth. A loss with a
    schedule of its own, as of a temperature, is another at each step, and nothing is said of it.
    """
    changes, warnings = bool(experiment.prune or experiment.quantize or experiment.replace), []
    for name, loss in experiment.losses.items():
        own = [getattr(loss, field.name) for field in fields(loss) if field.name != "weight"]
        if any(isinstance(value, Schedule) and not isinstance(value, Constant) for value in own):
            continue
        curve, weight = f"train/{name}", f"train/{name}_weight"
        logged = [row[curve] for row in rows if row.get(weight) and row.get(curve) is not None]
        if len(logged) < ROWS:
            continue
        size = len(logged) // 10
        tenths = [sum(logged[i : i + size]) / size for i in range(0, size * 10, size)]
        tenths[-1] = sum(logged[-size:]) / size
        if (min(tenths[1:]) if changes else tenths[-1]) >= tenths[0]:
            warnings.append(f"the loss {name!r} never fell: {tenths[0]:.4g} at first, {tenths[-1]:.4g} in the end")
    return warnings


def not_removed(experiment: Experiment, timeline: Timeline, units: dict[str, float], layers: list[dict]) -> list[str]:
    """Return a line for each pruner that removed less than was asked: of units, or of weights in the saved student."""
    warnings, by_name = [], {layer["name"]: layer for layer in layers}
    for name, pruner in experiment.pruners().items():
        asked, reached = pruner.sparsity.value(timeline.total_steps, timeline), units[name]
        what = pruner.shape if isinstance(pruner.shape, str) else "tiles"
        mine = [by_name[weight] for weight in pruner.weights if weight in by_name]
        if what in ("elements", "tiles") and mine:
            before = sum(layer["parameters_before"] for layer in mine)
            left = sum(layer["parameters"] * (1 - layer["sparsity"]) for layer in mine)
            reached = min(reached, 1 - left / max(before, 1))
        if reached < asked - SHORT_OF:
            warnings.append(f"{name}: {asked:.1%} of the {what} were to be removed, {reached:.1%} are")
    return warnings


def too_large(layers: list[dict], parameters: int, exports: list[Export]) -> list[str]:
    """Return a line for each file that is larger than its weights are in the bits they were trained for."""
    matrices = sum(layer["parameters"] for layer in layers)
    bits = sum(layer["parameters"] * (layer["bits"] or 0) for layer in layers) + 32 * max(parameters - matrices, 0)
    limit = 1.25 * bits / 8 + 200_000  # a graph, names, scales
    return [
        f"{export.path} takes {export.bytes:,} bytes, and its weights {bits // 8:,.0f} in the bits they are trained for"
        for export in exports
        if export.bytes > limit
    ]


def other_logits(exports: list[Export], deployed: Deployed) -> list[str]:
    """Return a line for each form of the student whose answers are not those it had in training."""
    # Rounded inputs turn a difference in the last bit into one of a whole code here and there; rounded weights do not.
    limits = {"folded": 1e-4}
    if deployed.exact:
        limits |= {"cut": 1e-3, "vocabulary": 1e-3, "exported": 1e-3}
    warnings = [
        f"the {what} student's logits are up to {deployed.parity[what]:.1g} from those it had in training"
        for what, limit in limits.items()
        if not deployed.parity.get(what, 0) <= limit
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
    deployed: Deployed,
    units: dict[str, float],
    scored: bool = False,
) -> list[str]:
    """Return all of it, the worst first.

    Args:
        experiment: what was asked for.
        timeline: of the run.
        rows: of metrics.csv.
        batches: validation, as the deployed student reads it.
        evaluation: what was measured and predicted.
        deployed: the student.
        units: what pruning removed, by pruner, as ``training.train.removed_units`` has it.
        scored: whether the preflight has looked at the teacher already.
    """
    task, naive = experiment.task, naive_metrics(experiment.task, batches)
    models, results, exports = evaluation.models, evaluation.results, evaluation.exports
    student = results.get("export", results["student"])
    warnings = [
        *learnt_nothing("student", models["student"], naive),
        *always_the_same(task, student, batches),
        *(learnt_nothing("teacher", models["teacher"], naive) if "teacher" in models and not scored else []),
        *never_fell(experiment, rows),
        *not_removed(experiment, timeline, units, deployed.layers),
        *other_logits(exports, deployed),
        *(warning for export in exports for warning in export.warnings),
        *too_large(deployed.layers, models["student"].parameters, exports),
    ]
    in_half = 2 * models["student"].parameters
    return warnings + [
        f"{export.path} takes {export.bytes} bytes, no less than the same model in bfloat16 ({in_half})"
        for export in exports
        if export.precision.startswith("partly")
    ]
