"""Latencies of deployed students on this machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.evaluation.measure import Latency, measure_latencies
from distill.export.serving.predictor import Predictor, load


def load_runtimes(run: str) -> dict[str, Predictor]:
    """Return the student of a run in each runtime that it has a file for, by the path of the file."""
    predictors = [load(run), load(run, "torch")]
    return {str(predictor.path): predictor for predictor in predictors}


def measure_predictors(
    predictors: dict[str, Predictor], batch_sizes: Sequence[int], length: int, seconds: float
) -> dict[str, dict[int, Latency]]:
    """Return the latency of each predictor at each batch size, measured in turn.

    Args:
        predictors: by name.
        batch_sizes: the numbers of texts in a batch.
        length: the tokens of each text; a shorter ``max_length`` of a task limits it.
        seconds: for each batch size.
    """
    latencies: dict[str, dict[int, Latency]] = {name: {} for name in predictors}
    functions = {name: predictor.predict for name, predictor in predictors.items()}
    for size in batch_sizes:
        batches = {name: _batch(predictor, size, length) for name, predictor in predictors.items()}
        for name, latency in measure_latencies(functions, batches, seconds).items():
            latencies[name][size] = latency
    return latencies


def _batch(predictor: Predictor, size: int, length: int) -> dict[str, Tensor]:
    """Return texts of one token each, repeated: values of tokens do not change the time."""
    task = predictor.task
    length = min(length, task.max_length)
    row = task.encode_inputs({name: ["a " * 2 * length] for name in predictor.columns})
    cut = {name: torch.tensor(values[0][:length]) for name, values in row.items()}
    batch = {name: value.expand(size, -1).contiguous() for name, value in cut.items()}
    if predictor.collate.decoder_start is not None:
        batch["decoder_input_ids"] = torch.full((size, 1), predictor.collate.decoder_start)
    return batch
