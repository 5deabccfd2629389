"""What masks cost while they stand still, and what it is worth to cut units out while the student trains.

    python -m benchmarks.pruning --model FOLDER [--steps 40] [--share 0.8] [--tokens 32]

All take turns step by step in one process on one thread, on 32 rows, with a loss on labels and no teacher; each figure
is the median of the ratios to the step, in the same turn, of the student without a pruner. What is counted is the
processor's time, for others may use the machine.
"""

import statistics
from collections.abc import Callable

from torch import Tensor

from benchmarks.turns import adamw, arguments, batches, compared, in_turn, student, train
from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.structure.shrink import cut_settled

TIMELINE = Timeline(1000, 1000)


def loop(
    folder: str, pruner: Magnitude | None = None, cut: bool = False
) -> Callable[[tuple[int, dict[str, Tensor]]], None]:
    """Makes a student and its optimizer, and returns what does a step of it, given its number and rows."""
    model = student(folder)
    if pruner:
        pruner.attach(model)
        pruner.update(0, TIMELINE)
    optimizer = adamw(model)

    def step(turn: tuple[int, dict[str, Tensor]]) -> None:
        number, batch = turn
        train(model, optimizer, batch)
        if pruner:
            pruner.update(number, TIMELINE)
        if number == 1 and cut:
            cut_settled(model, {"prune": pruner}, {pruner.shape}, 0, TIMELINE, [optimizer])

    return step


def main() -> None:
    """Prints the ratios, and between which half of them lie."""
    parser = arguments(steps=40)
    parser.add_argument("--share", type=float, default=0.8)
    given = parser.parse_args()
    share = Constant(given.share)
    loops = {
        "no pruner": loop(given.model),
        "masks that remove nothing": loop(given.model, Magnitude(sparsity=Constant(0.0))),
        "elements masked": loop(given.model, Magnitude(sparsity=share)),
        "neurons masked": loop(given.model, Magnitude(sparsity=share, shape="neurons")),
        "neurons cut": loop(given.model, Magnitude(sparsity=share, shape="neurons"), cut=True),
    }
    times = in_turn(loops, enumerate(batches(given.steps, given.tokens), start=1))
    print(f"no pruner: {1000 * statistics.median(times['no pruner']):.0f} ms a step")
    for one, other in [*((name, "no pruner") for name in list(loops)[1:]), ("neurons cut", "neurons masked")]:
        print(compared(times, one, other))


if __name__ == "__main__":
    main()
