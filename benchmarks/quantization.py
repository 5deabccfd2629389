"""Cost of quantization-aware training, relative to a step without it.

    python -m benchmarks.quantization --model FOLDER [--steps 30] [--tokens 32]

All models take turns step by step in one process on one thread, on 32 rows, with a loss on labels and no teacher. Each
figure is the median of the ratios to the plain step in the same turn. Times are processor time, as other jobs may use
the machine.
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
from prune_schedules.schedule import Timeline
from quant_aware.quantize import Quantize
from quant_aware.quantizers.codebook import KMeans
from quant_aware.quantizers.ternary import Ternary
from quant_aware.quantizers.uniform import Uniform


def make_step(folder: str, quantize: Quantize | None = None) -> Callable[[dict[str, Tensor]], None]:
    """Return a function that trains a new student for one step."""
    model = load_student(folder)
    if quantize:
        quantize.attach(model)
        quantize.update(0, Timeline(1000, 1000))
        quantize.calibrate(model, was_enabled=False)
    optimizer = make_optimizer(model)
    return lambda batch: train_step(model, optimizer, batch)


def main() -> None:
    """Print the medians and quartiles of the ratios."""
    options = argument_parser(steps=30).parse_args()
    # The learned steps of an embedding are one per token: they cost as much as all others, and gain nothing.
    learned, embeddings = Uniform(bits=4, learn=True), {"*embeddings*": Uniform()}
    settings = {
        "plain": None,
        "int8": Quantize(),
        "4-bit weights alone": Quantize(weights=Uniform(bits=4), activations=None),
        "4-bit weights, groups of 64": Quantize(weights=Uniform(bits=4, granularity=64), activations=None),
        "4-bit weights, learned scales": Quantize(weights=learned, overrides=embeddings, activations=None),
        "4-bit weights, codebook": Quantize(weights=KMeans(), activations=None),
        "ternary weights, 8-bit activations": Quantize(weights=Ternary()),
    }
    loops = {name: make_step(options.model, quantize) for name, quantize in settings.items()}
    times = time_in_turn(loops, batches(options.steps, options.tokens))
    print(f"plain: {1000 * statistics.median(times['plain']):.0f} ms a step")
    for name in list(loops)[1:]:
        print(comparison(times, name, "plain"))


if __name__ == "__main__":
    main()
