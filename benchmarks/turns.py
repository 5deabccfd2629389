"""Time steps that take turns in one process, so that a change of the machine's speed affects all of them."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

ROWS, WARM_UP = 32, 3
Item = TypeVar("Item")


def time_in_turn(
    steps: Mapping[str, Callable[[Item], object]], items: Iterable[Item], clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Return the seconds of each step with each item, without the first ``WARM_UP`` items.

    By default processor time, as other jobs may use the machine.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for item in items:
        for name, step in steps.items():
            begin = clock()
            step(item)
            times[name].append(clock() - begin)
    return {name: seconds[WARM_UP:] for name, seconds in times.items()}


def quartiles(times: list[float], reference: list[float]) -> list[float]:
    """Return the three quartiles of the ratios to the reference in the same turn."""
    return statistics.quantiles([a / b for a, b in zip(times, reference, strict=True)], n=4)


def comparison(times: dict[str, list[float]], name: str, reference: str) -> str:
    """Return median and quartiles of the ratios as a line."""
    low, middle, high = quartiles(times[name], times[reference])
    return f"{name} against {reference}: {middle:.3f} of the time, half of the pairs within {low:.3f} to {high:.3f}"


def argument_parser(steps: int) -> argparse.ArgumentParser:
    """Return a parser of the options for steps of a model from a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--tokens", type=int, default=32)
    return parser


def batches(steps: int, tokens: int) -> Iterator[dict[str, Tensor]]:
    """Yield random batches for the warm-up and for ``steps`` steps."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(WARM_UP + steps):
        ids = torch.randint(1000, 8000, (ROWS, tokens), generator=generator)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}


def load_student(folder: str) -> PreTrainedModel:
    """Return the model in float32 in train mode, and set torch to one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).train()


def make_optimizer(model: PreTrainedModel) -> torch.optim.Optimizer:
    """Return AdamW over all parameters."""
    return torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)


def train_step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> None:
    """Train for one step on labels."""
    optimizer.zero_grad()
    model(**batch).loss.backward()
    optimizer.step()
