"""What a model is worth and what it costs: metrics, size, arithmetic, latency, and how far two models agree."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from distill.tasks.task import Predict, Task
from distill.tasks.writing import CachedGenerator
from students.recording.model_io import model_inputs, output_logits


@dataclass
class Measured:
    """What the report says of one model."""

    metrics: dict[str, float]
    parameters: int
    nonzero_parameters: int
    bytes: int
    """Of the file that people have, in the precision in which it is stored."""
    flops_per_example: int
    latency_ms: dict[str, float] = field(default_factory=dict)
    runtime: str = "torch"
    precision: str = "float32"


def torch_predict(model: PreTrainedModel) -> Predict:
    """Runs a model in eval mode without gradients."""

    def predict(batch: dict[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            return output_logits(model(**model_inputs(model, batch))).float()

    model.eval()
    return CachedGenerator(model, predict) if isinstance(model, PreTrainedModel) and model.can_generate() else predict


@dataclass
class EvalResult:
    """The predictions of a model on the validation rows, and what they are worth."""

    metrics: dict[str, float]
    predictions: Tensor
    """Wherever it was asked, [N]."""
    confidences: Tensor | None
    """The probability that it gives to each of them, [N]."""


def evaluate_model(task: Task, predict: Predict, batches: Iterable[dict[str, Tensor]]) -> EvalResult:
    """Run a model on all batches."""
    metrics, predictions, confidences = task.metrics(), [], []
    for metric in metrics.values():
        metric.distributed_available_fn = lambda: False  # this process alone measures, the others have gone home
    for batch in batches:
        logits = task.select_logits(predict(batch), batch)
        task.update_metrics(metrics, logits, batch)
        task.update_generation_metrics(metrics, predict, batch)
        predictions.append(task.predictions(logits, batch))
        confidences.append(task.confidences(logits, batch))
    values = {name: float(value) for name, value in metrics.compute().items()}
    return EvalResult(values, torch.cat(predictions), None if confidences[0] is None else torch.cat(confidences))


def sizes(model: nn.Module) -> tuple[int, int]:
    """Parameters, and those that are not zero; tied ones once."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(int(torch.count_nonzero(p)) for p in parameters)


def flops(model: PreTrainedModel, example: dict[str, Tensor]) -> int:
    """Floating-point operations of the matrix products of one forward pass (a multiply and an add are two)."""
    # On a copy with plain attention, and without oneDNN, which has recurrent layers of its own: the counter does not
    # know the fused kernels of the CPU.
    copy = deepcopy(model).eval()
    copy.set_attn_implementation("eager")
    enabled, *_ = torch.backends.mkldnn.set_flags(False)  # ``flags`` would set, and warn of, what is of Intel's GPUs
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            copy(**model_inputs(copy, example))
    finally:
        torch.backends.mkldnn.set_flags(enabled)
    return counter.get_total_flops()


def latencies(
    models: dict[str, Predict], batches: dict[str, dict[str, Tensor]], seconds: float = 3.0
) -> dict[str, float]:
    """Median milliseconds of each model on its batch (the same rows for all), run in turn, so that a change of the
    machine's speed hits all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    for name, predict in models.items():
        predict(batches[name])
    until, rounds = time.perf_counter() + seconds, 0
    while rounds < 5 or (time.perf_counter() < until and rounds < 200):
        for name, predict in models.items():
            start = time.perf_counter()
            predict(batches[name])
            times[name].append(1000 * (time.perf_counter() - start))
        rounds += 1
    return {name: statistics.median(found) for name, found in times.items()}


def agreement(one: Tensor, other: Tensor) -> float:
    """The share of equal predictions, [N] each; of numbers, of those within 1 % of their spread."""
    if one.is_floating_point():
        return float(((one - other).abs() <= 0.01 * (one.max() - one.min())).float().mean())
    return float((one == other).float().mean())
