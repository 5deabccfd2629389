"""Evaluate the student of a finished run on a labelled file, folder or data set."""

from __future__ import annotations

import argparse
import json

from distill.command.options import number_from_1, refuse_rest
from distill.config.errors import ConfigError
from distill.training.callbacks.display.quiet import silence_libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run", help="the folder of a run, or of its student alone")
    parser.add_argument("data", help="a file with the columns of training, a folder, or a hub name")
    parser.add_argument("--task", help="one of several tasks")
    parser.add_argument("--runtime", choices=["onnxruntime", "torch"], help="by default the exported file, if any")
    parser.add_argument("--batch_size", type=number_from_1, default=32, help="rows computed together [32]")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Print the metrics, and return the exit code.

    Raises:
        ConfigError: if run or data cannot be used.
    """
    refuse_rest(rest)
    silence_libraries()
    from distill.evaluation.intervals import intervals
    from distill.export.serving.labelled import evaluate_file
    from distill.export.serving.predictor import load

    predictor = load(options.run, options.runtime, options.task)
    try:
        evaluated = evaluate_file(predictor, options.data, options.batch_size)
    except ValueError as error:
        raise ConfigError(str(error).removeprefix("data: ")) from error
    metrics, edges = evaluated.result.metrics, intervals(evaluated.result.replicates)
    if options.json:
        print(json.dumps({"data": evaluated.path, "rows": evaluated.rows, "metrics": metrics, "intervals": edges}))
        return 0
    print(f"{predictor.path}: {evaluated.rows:,} rows of {evaluated.path}, and 95 % intervals")
    width = max(map(len, metrics))
    for name, value in metrics.items():
        low, high = edges[name]
        print(f"  {name:<{width}}  {value:.4f} ({low:.4f} to {high:.4f})")
    return 0
