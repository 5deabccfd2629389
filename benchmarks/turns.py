"""Steps that take turns in one process, so that a machine that gets slower gets slower for all of them."""

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


def in_turn(
    steps: Mapping[str, Callable[[Item], object]], items: Iterable[Item], clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """The seconds that each step takes with each of the items, without the first ``WARM_UP`` of them.

    As a rule the processor's, for others may use the machine.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for item in items:
        for name, step in steps.items():
            begin = clock()
            step(item)
            times[name].append(clock() - begin)
    return {name: found[WARM_UP:] for name, found in times.items()}


def quartiles(one: list[float], other: list[float]) -> list[float]:
    """The three of the ratios, one to other, in the same turn."""
    return statistics.quantiles([a / b for a, b in zip(one, other, strict=True)], n=4)


def compared(times: dict[str, list[float]], one: str, other: str) -> str:
    """A line that says so."""
    low, middle, high = quartiles(times[one], times[other])
    return f"{one} against {other}: {middle:.3f} of the time, half of the pairs within {low:.3f} to {high:.3f}"


def arguments(steps: int) -> argparse.ArgumentParser:
    """What is said of steps of a model from a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--tokens", type=int, default=32)
    return parser


def batches(steps: int, tokens: int) -> Iterator[dict[str, Tensor]]:
    """Made-up rows for so many steps, and for those that are not counted."""
    draw = torch.Generator().manual_seed(0)
    for _ in range(WARM_UP + steps):
        ids = torch.randint(1000, 8000, (ROWS, tokens), generator=draw)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}


def student(folder: str) -> PreTrainedModel:
    """The model in float32, to be trained on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).train()


def adamw(model: PreTrainedModel) -> torch.optim.Optimizer:
    """Of all its parameters."""
    return torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)


def train(model: PreTrainedModel, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> None:
    """One step, with a loss on labels and no teacher."""
    optimizer.zero_grad()
    model(**batch).loss.backward()
    optimizer.step()
