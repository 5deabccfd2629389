"""Measure the latency of finished runs on this machine, in turn, on the same inputs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from distill.command.options import number_from_1, refuse_rest
from distill.training.callbacks.display.quiet import silence_libraries

if TYPE_CHECKING:
    from distill.evaluation.measure import Latency


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
        facts = {name: {size: asdict(latency) for size, latency in sizes.items()} for name, sizes in latencies.items()}
        print(json.dumps({"hardware": machine, "length": options.length, "latency_ms": facts}))
        return 0
    print(f"{machine['cpu']}, {machine['threads']} threads, {options.length} tokens a text")
    print("milliseconds for a batch: the median, and the 10th to 90th percentile")
    width = max(map(len, latencies))
    print(" " * width, *(f"batch {size}".rjust(24) for size in options.batch_sizes))
    for name, sizes in latencies.items():
        print(name.ljust(width), *(_cell(latency).rjust(24) for latency in sizes.values()))
    return 0


def _cell(latency: Latency) -> str:
    low, high = latency.spread
    return f"{latency.median:.3g} ({low:.3g} to {high:.3g})"
