"""Cost of masks in training, and the gain of cutting masked units out of the student meanwhile.

    python -m benchmarks.pruning --model FOLDER [--steps 40] [--sparsity 0.8] [--tokens 32]

All models take turns step by step in one process on one thread, on 32 rows, with a loss on labels and no teacher. Each
figure is the median of the ratios to the step of the student without a pruner in the same turn. Times are processor
time, as other jobs may use the machine.
"""

import statistics
from collections.abc import Callable

from torch import Tensor

from benchmarks.turns import (
    argument_parser,
    batches,
    comparison,
    load_student,
    make_optimizer,
    time_in_turn,
    train_step,
)
from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.structure.shrink import cut_final

TIMELINE = Timeline(1000, 1000)


def make_step(
    folder: str, pruner: Magnitude | None = None, cut: bool = False
) -> Callable[[tuple[int, dict[str, Tensor]]], None]:
    """Return a function that trains a new student for one step, given the step's number and batch."""
    model = load_student(folder)
    if pruner:
        pruner.attach(model)
        pruner.update(0, TIMELINE)
    optimizer = make_optimizer(model)

    def step(numbered_batch: tuple[int, dict[str, Tensor]]) -> None:
        number, batch = numbered_batch
        train_step(model, optimizer, batch)
        if pruner:
            pruner.update(number, TIMELINE)
        if number == 1 and cut:
            cut_final(model, {"prune": pruner}, {pruner.shape}, 0, TIMELINE, [optimizer])

    return step


def main() -> None:
    """Print the medians and quartiles of the ratios."""
    parser = argument_parser(steps=40)
    parser.add_argument("--sparsity", type=float, default=0.8)
    options = parser.parse_args()
    sparsity = Constant(options.sparsity)
    loops = {
        "no pruner": make_step(options.model),
        "masks that remove nothing": make_step(options.model, Magnitude(sparsity=Constant(0.0))),
        "elements masked": make_step(options.model, Magnitude(sparsity=sparsity)),
        "neurons masked": make_step(options.model, Magnitude(sparsity=sparsity, shape="neurons")),
        "neurons cut": make_step(options.model, Magnitude(sparsity=sparsity, shape="neurons"), cut=True),
    }
    times = time_in_turn(loops, enumerate(batches(options.steps, options.tokens), start=1))
    print(f"no pruner: {1000 * statistics.median(times['no pruner']):.0f} ms a step")
    pairs = [*((name, "no pruner") for name in list(loops)[1:]), ("neurons cut", "neurons masked")]
    for name, reference in pairs:
        print(comparison(times, name, reference))


if __name__ == "__main__":
    main()
