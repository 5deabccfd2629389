"""What masks cost while they stand still, and what it is worth to cut units out while the student trains.

    python -m benchmarks.pruning --model FOLDER [--steps 40] [--share 0.8] [--tokens 32]

All take turns step by step in one process on one thread, on 32 rows, with a loss on labels and no teacher; each figure
is the median of the ratios to the step, in the same turn, of the student without a pruner. What is counted is the
processor's time, for others may use the machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForSequenceClassification

from prune_schedules import Magnitude
from prune_schedules.schedule import Constant, Timeline
from prune_schedules.shrink import cut_settled

ROWS, WARM_UP = 32, 3
TIMELINE = Timeline(1000, 1000)


def loop(name: str, pruner: Magnitude | None = None, cut: bool = False) -> Callable[[int, dict], float]:
    """Makes a student and its optimizer, and returns what does a step of it and says its seconds."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(name, dtype=torch.float32).train()
    if pruner:
        pruner.attach(model)
        pruner.update(0, TIMELINE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step(number: int, batch: dict) -> float:
        begin = time.process_time()
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        if pruner:
            pruner.update(number, TIMELINE)
        if number == 1 and cut:
            cut_settled(model, {"prune": pruner}, {pruner.shape}, 0, TIMELINE, [optimizer])
        return time.process_time() - begin

    return step


def main() -> None:
    """Prints the ratios, and between which half of them lie."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--tokens", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    share = Constant(given.share)
    loops = {
        "no pruner": loop(given.model),
        "masks that remove nothing": loop(given.model, Magnitude(sparsity=Constant(0.0))),
        "elements masked": loop(given.model, Magnitude(sparsity=share)),
        "neurons masked": loop(given.model, Magnitude(sparsity=share, shape="neurons")),
        "neurons cut": loop(given.model, Magnitude(sparsity=share, shape="neurons"), cut=True),
    }
    draw, times = torch.Generator().manual_seed(0), {name: [] for name in loops}
    for number in range(1, WARM_UP + given.steps + 1):
        ids = torch.randint(1000, 8000, (ROWS, given.tokens), generator=draw)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}
        for name, step in loops.items():
            times[name].append(step(number, batch))
    times = {name: found[WARM_UP:] for name, found in times.items()}
    print(f"no pruner: {1000 * statistics.median(times['no pruner']):.0f} ms a step")
    for one, other in [*((name, "no pruner") for name in list(loops)[1:]), ("neurons cut", "neurons masked")]:
        ratios = [a / b for a, b in zip(times[one], times[other], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{one} against {other}: {middle:.3f} of the time, half of the pairs within {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
