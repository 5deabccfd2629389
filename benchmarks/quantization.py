"""The cost of a training step with fake quantization, compared with a plain one.

    python -m benchmarks.quantization --model FOLDER [--steps 30] [--tokens 32]

All take turns step by step in one process on one thread, on 32 rows, with a loss on labels and no teacher; each figure
is the median of the ratios to the plain step in the same turn. What is counted is the processor's time, for others may
use the machine.
"""

import statistics
from collections.abc import Callable

from torch import Tensor

from benchmarks.turns import adamw, arguments, batches, compared, in_turn, student, train
from prune_schedules.schedule import Timeline
from quant_aware.quantize import Quantize
from quant_aware.quantizers.codebook import KMeans
from quant_aware.quantizers.ternary import Ternary
from quant_aware.quantizers.uniform import Uniform


def loop(folder: str, quantize: Quantize | None = None) -> Callable[[dict[str, Tensor]], None]:
    """Makes a student and its optimizer, and returns what does a step of it."""
    model = student(folder)
    if quantize:
        quantize.attach(model)
        quantize.update(0, Timeline(1000, 1000))
        quantize.calibrate(model, was_enabled=False)
    optimizer = adamw(model)
    return lambda batch: train(model, optimizer, batch)


def main() -> None:
    """Prints the ratios, and between which half of them lie."""
    given = arguments(steps=30).parse_args()
    # Learned scales of an embedding are one per token: not worth it, and as expensive as all the rest.
    learned, embeddings = Uniform(bits=4, learn=True), {"*embeddings*": Uniform()}
    loops = {
        "plain": loop(given.model),
        "int8": loop(given.model, Quantize()),
        "4-bit weights alone": loop(given.model, Quantize(weights=Uniform(bits=4), activations=None)),
        "4-bit weights, groups of 64": loop(
            given.model, Quantize(weights=Uniform(bits=4, granularity=64), activations=None)
        ),
        "4-bit weights, learned scales": loop(
            given.model, Quantize(weights=learned, overrides=embeddings, activations=None)
        ),
        "4-bit weights, learned codebook": loop(given.model, Quantize(weights=KMeans(), activations=None)),
        "ternary weights, 8-bit activations": loop(given.model, Quantize(weights=Ternary())),
    }
    times = in_turn(loops, batches(given.steps, given.tokens))
    print(f"plain: {1000 * statistics.median(times['plain']):.0f} ms a step")
    for name in list(loops)[1:]:
        print(compared(times, name, "plain"))


if __name__ == "__main__":
    main()
