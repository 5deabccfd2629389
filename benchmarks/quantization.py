"""What it costs to train on a grid, of a step without.

    python -m benchmarks.quantization --model FOLDER [--steps 30] [--tokens 32]

All take turns step by step in one process on one thread, on 32 rows, with a loss on labels and no teacher; each figure
is the median of the ratios to the plain step in the same turn. What is counted is the processor's time, for others may
use the machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForSequenceClassification

from prune_schedules.schedule import Timeline
from quant_aware.grids import Ternary, Uniform
from quant_aware.quantize import Quantize

ROWS, WARM_UP = 32, 3
TIMELINE = Timeline(1000, 1000)


def loop(name: str, quantize: Quantize | None = None) -> Callable[[dict], float]:
    """Makes a student and its optimizer, and returns what does a step of it and says its seconds."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(name, dtype=torch.float32).train()
    if quantize:
        quantize.attach(model)
        quantize.update(0, TIMELINE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step(batch: dict) -> float:
        begin = time.process_time()
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        return time.process_time() - begin

    return step


def main() -> None:
    """Prints the ratios, and between which half of them lie."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    loops = {
        "plain": loop(given.model),
        "int8": loop(given.model, Quantize()),
        "4-bit weights alone": loop(given.model, Quantize(weights=Uniform(bits=4), activations=None)),
        "4-bit weights, groups of 64": loop(given.model, Quantize(weights=Uniform(bits=4, per=64), activations=None)),
        "ternary weights, 8-bit activations": loop(given.model, Quantize(weights=Ternary())),
    }
    draw, times = torch.Generator().manual_seed(0), {name: [] for name in loops}
    for _ in range(WARM_UP + given.steps):
        ids = torch.randint(1000, 8000, (ROWS, given.tokens), generator=draw)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}
        for name, step in loops.items():
            times[name].append(step(batch))
    times = {name: found[WARM_UP:] for name, found in times.items()}
    print(f"plain: {1000 * statistics.median(times['plain']):.0f} ms a step")
    for name in list(loops)[1:]:
        ratios = [a / b for a, b in zip(times[name], times["plain"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{name}: {middle:.3f} of the time, half of the pairs within {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
