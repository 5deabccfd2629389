"""Measure a model: metrics, size, FLOPs, latency, and the agreement of two models."""

from __future__ import annotations

import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from distill.evaluation.intervals import RowStates, UpdateRecorder, difference_intervals
from distill.tasks.task import Predict, Task
from distill.tasks.writing import CachedGenerator
from students.recording.model_io import model_inputs, output_logits, plain_kernels


@dataclass
class ModelStats:
    """The measurements of a model, as in report.json; sizes are None for a teacher that has no model."""

    metrics: dict[str, float]
    parameters: int | None
    nonzero_parameters: int | None
    bytes: int | None
    """The size of its file, in the precision in which it is stored."""
    flops_per_example: int | None
    latency_ms: dict[str, float] = field(default_factory=dict)
    """The median by batch."""
    runtime: str = "torch"
    precision: str = "float32"
    latency_spread_ms: dict[str, list[float]] = field(default_factory=dict)
    """The 10th and the 90th percentile by batch."""
    latency_tokens: dict[str, int] = field(default_factory=dict)
    """The length of the texts by batch, in tokens with padding."""
    intervals: dict[str, list[float]] = field(default_factory=dict)
    """The 95 % interval of each metric, [low, high]."""
    threshold: float | None = None
    """The probability from which a label holds, where a row may have several; else None."""


def torch_predict(model: PreTrainedModel) -> Predict:
    """Return a function from a batch to float32 logits, without gradients; puts the model in eval mode."""

    def predict(batch: dict[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            return output_logits(model(**model_inputs(model, batch))).float()

    model.eval()
    return CachedGenerator(model, predict) if isinstance(model, PreTrainedModel) and model.can_generate() else predict


@dataclass
class EvalResult:
    """Metrics and predictions of a model on the validation rows."""

    metrics: dict[str, float]
    predictions: Tensor
    """Predictions [N]: one for each labelled row or token; where a row may have several labels, 0s and 1s [N, L]."""
    confidences: Tensor | None
    """The probability of each prediction, in their shape; None for numbers."""
    labels: Tensor | None = None
    """The label of each prediction, in their shape; None if they are not classes or numbers."""
    replicates: dict[str, np.ndarray] = field(default_factory=dict)
    """The metrics of each bootstrap resample, [R] by name."""
    states: RowStates | None = None
    """The states of the metrics by row, for metrics of some of the rows."""
    threshold: float | None = None
    """The threshold of the predictions, where a row may have several labels; else None."""

    def class_counts(self, classes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the numbers of right predictions, of labels and of predictions of each class, [C] each.

        Raises:
            ValueError: if there are no labels.
        """
        if self.labels is None:
            raise ValueError("the predictions have no labels")
        if self.predictions.dim() == 2:
            return (self.labels & self.predictions).sum(0), self.labels.sum(0), self.predictions.sum(0)
        right = self.labels[self.labels == self.predictions]
        right, labels, predictions = (x.bincount(minlength=classes) for x in (right, self.labels, self.predictions))
        return right, labels, predictions

    @property
    def rows(self) -> int:
        """The number of evaluated rows, by which two results on the same rows are known."""
        return self.states.count if self.states else len(self.predictions)


def evaluate_model(
    task: Task, predict: Predict, batches: list[dict[str, Tensor]], resample: bool = False
) -> EvalResult:
    """Return metrics and predictions of a model on all batches, and its metrics on resamples for their intervals.

    Where a row may have several labels and the task has no threshold yet, the best one on these rows is used.
    """
    outputs: Iterable[Tensor] = (task.compute_logits(predict, batch) for batch in batches)
    if task.is_multi_label and task.decision_threshold is None:
        outputs = list(outputs)
        task = task.at_threshold(task.best_threshold(outputs, batches))
    metrics, predictions, confidences, labels = task.metrics(), [], [], []
    for metric in metrics.values():
        metric.distributed_available_fn = lambda: False  # only this process evaluates; the others have ended
    states = RowStates(task) if resample else None
    for batch, logits in zip(batches, outputs, strict=True):
        task.update_metrics(metrics, logits, batch)
        generated = {name: UpdateRecorder() for name in metrics}
        task.update_generation_metrics(generated, predict, batch)
        for name, recorder in generated.items():
            if recorder.arguments:
                metrics[name].update(*recorder.arguments)
        if states:
            states.update(logits, batch, generated)
        predictions.append(task.predictions(logits, batch))
        confidences.append(task.confidences(logits, batch))
        labels.append(task.prediction_labels(batch))
    values = {name: float(value) for name, value in metrics.compute().items()}
    has_labels = all(label.shape == part.shape for label, part in zip(labels, predictions, strict=True))
    return EvalResult(
        values,
        torch.cat(predictions),
        None if confidences[0] is None else torch.cat(confidences),
        torch.cat(labels) if has_labels else None,
        states.replicates() if states else {},
        states,
        task.decision_threshold,
    )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the numbers of parameters and of nonzero ones; tied parameters count once."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(int(torch.count_nonzero(p)) for p in parameters)


def count_flops(model: PreTrainedModel, example: dict[str, Tensor]) -> int:
    """Return the FLOPs of the matrix products of one forward pass (a multiply-add counts as two)."""
    # The counter does not know fused CPU kernels: count on a copy with eager attention and without oneDNN's RNNs.
    # Nothing needs a gradient: the counter fails on modules that are given a parameter, as DeBERTa's blocks are.
    copy = deepcopy(model).eval().requires_grad_(False)
    enabled, *_ = torch.backends.mkldnn.set_flags(False)  # ``flags`` would set, and warn of, options of Intel's GPUs
    try:
        with plain_kernels(copy), FlopCounterMode(display=False) as counter, torch.no_grad():
            copy(**model_inputs(copy, example))
    finally:
        torch.backends.mkldnn.set_flags(enabled)
    return counter.get_total_flops()


@dataclass(frozen=True)
class Latency:
    """The time of one call in milliseconds: its median, and its 10th and 90th percentile."""

    median: float
    spread: list[float]


def measure_latencies(
    models: dict[str, Predict], batches: dict[str, dict[str, Tensor]], seconds: float = 3.0
) -> dict[str, Latency]:
    """Return the latency of each model.

    Models run in turn, so that a change of the machine's speed affects all alike.

    Args:
        models: the models by name.
        batches: the batch of each model, the same rows for all.
        seconds: how long to measure, for 5 to 200 rounds.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    for name, predict in models.items():
        predict(batches[name])
    deadline, rounds = time.perf_counter() + seconds, 0
    while rounds < 5 or (time.perf_counter() < deadline and rounds < 200):
        for name, predict in models.items():
            start = time.perf_counter()
            predict(batches[name])
            times[name].append(1000 * (time.perf_counter() - start))
        rounds += 1
    percentiles = {name: np.percentile(milliseconds, [10, 50, 90]).tolist() for name, milliseconds in times.items()}
    return {name: Latency(median, [low, high]) for name, (low, median, high) in percentiles.items()}


def difference(results: dict[str, EvalResult], student: EvalResult) -> dict[str, list[float]]:
    """Return the interval of student minus ``teacher`` by metric; empty without a teacher on the same rows."""
    teacher = results.get("teacher")
    is_paired = teacher is not None and teacher.rows == student.rows
    return difference_intervals(student.replicates, teacher.replicates) if is_paired else {}


def agreement(predictions: Tensor, others: Tensor) -> float:
    """Return the share of equal predictions, [N] each; numbers are equal within 1 % of their spread."""
    if predictions.is_floating_point():
        spread = predictions.max() - predictions.min()
        return float(((predictions - others).abs() <= 0.01 * spread).float().mean())
    return float((predictions == others).float().mean())
