"""Measure the latency of finished runs on this machine, in turn, on the same inputs."""

from __future__ import annotations

import argparse
import json

from distill.command.options import number_from_1, refuse_rest
from distill.training.callbacks.display.quiet import silence_libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("runs", nargs="+", metavar="run", help="the folder of a run, or of its student alone")
    parser.add_argument("--batch_sizes", type=number_from_1, nargs="+", default=[1, 32], help="texts in a batch [1 32]")
    parser.add_argument("--length", type=number_from_1, default=32, help="tokens of each text [32]")
    parser.add_argument("--threads", type=number_from_1, help="by default torch's number for this machine")
    parser.add_argument("--seconds", type=number_from_1, default=3, help="time for each batch size [3]")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Print the latencies, and return the exit code.

    Raises:
        ConfigError: if a run cannot be used.
    """
    refuse_rest(rest)
    silence_libraries()
    import torch

    from distill.evaluation.machine import hardware
    from distill.export.serving.latency import load_runtimes, measure_predictors

    if options.threads:
        torch.set_num_threads(options.threads)
    predictors = {path: predictor for run in options.runs for path, predictor in load_runtimes(run).items()}
    machine = hardware()
    latencies = measure_predictors(predictors, options.batch_sizes, options.length, options.seconds)
    if options.json:
        print(json.dumps({"hardware": machine, "length": options.length, "latency_ms": latencies}))
        return 0
    print(f"{machine['cpu']}, {machine['threads']} threads, {options.length} tokens a text; milliseconds a batch")
    width = max(map(len, latencies))
    print(" " * width, *(f"batch {size}".rjust(12) for size in options.batch_sizes))
    for name, values in latencies.items():
        print(name.ljust(width), *(f"{value:12.3g}" for value in values.values()))
    return 0
