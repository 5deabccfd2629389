"""Time of a step with a teacher that runs, and with its outputs read from the cache.

    python -m benchmarks.cache [--steps 60]

The two take turns step by step in one process. Teacher of 6 blocks, student of 2, both 384 wide; 32 rows of 32
tokens; a loss on the logits, or on the logits and on two layers of states.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.turns import ROWS, WARM_UP, quartiles, time_in_turn
from distill.teachers.cache import CachedTeacher
from distill.teachers.teacher import FrozenTeacher
from losses.loss import Loss
from losses.outputs.logits import Logits
from losses.states.hidden import HiddenMSE
from prune_schedules.schedule import Timeline
from students.recording.signals import Signals
from students.recording.trace import Recorder

BATCHES, TOKENS = 8, 32
SHAPE = {"vocab_size": 8000, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536, "num_labels": 2}


def time_steps(losses: list[Loss], steps: int, folder: Path) -> tuple[list[float], list[float], float]:
    """Return the seconds of each step with a running teacher and with a cached one, and the bytes of a row on disk."""
    torch.manual_seed(0)
    teacher, student = (BertForSequenceClassification(BertConfig(num_hidden_layers=n, **SHAPE)) for n in (6, 2))
    for loss in losses:
        loss.setup(student.config, teacher.config)
    needs, values = [Signals(), Signals()], {loss: loss.at(0, Timeline(1, 1)) for loss in losses}
    for loss in losses:
        needs = [needs[0] | loss.student_signals, needs[1] | loss.teacher_signals]
    ids = torch.randint(5, 8000, (BATCHES * ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    frozen = FrozenTeacher(teacher)
    cached = CachedTeacher(frozen, ids.tolist(), folder)
    recorder, optimizer = Recorder(student.train()), torch.optim.AdamW(student.parameters(), lr=1e-5)
    batches = [
        {"input_ids": part, "attention_mask": torch.ones_like(part), "row": rows, "labels": torch.zeros(ROWS).long()}
        for part, rows in zip(ids.split(ROWS), torch.arange(BATCHES * ROWS).split(ROWS), strict=True)
    ]
    for batch in batches:
        cached.trace(batch, needs[1])

    def step(source: FrozenTeacher | CachedTeacher, batch: dict[str, Tensor]) -> None:
        teacher_trace, student_trace = source.trace(batch, needs[1]), recorder.trace(batch, needs[0])
        sums = (loss(student_trace, teacher_trace, batch, values[loss]) for loss in losses)
        sum(total / count for total, count in sums).backward()
        optimizer.step()
        optimizer.zero_grad()

    loops = {"runs": partial(step, frozen), "is cached": partial(step, cached)}
    times = time_in_turn(loops, islice(cycle(batches), WARM_UP + steps), clock=time.perf_counter)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / len(ids)
    return times["runs"], times["is cached"], size


def main() -> None:
    """Print the times with and without a cache, for losses on logits and on hidden states."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    cases = {"logits": [Logits()], "logits and states": [Logits(), HiddenMSE(layers={1: 3, 2: 6})]}
    for name, losses in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            frozen_times, cached_times, size = time_steps(losses, steps, Path(folder))
        low, _, high = quartiles(frozen_times, cached_times)
        slow, fast = (1000 * statistics.median(times) for times in (frozen_times, cached_times))
        print(
            f"{name}: teacher runs {slow:.1f} ms, is cached {fast:.1f} ms a step; {slow / fast:.2f} times faster, half "
            f"of the pairs within {low:.2f} to {high:.2f}; {size:,.0f} bytes a row on disk"
        )


if __name__ == "__main__":
    main()
