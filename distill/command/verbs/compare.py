"""Compare finished runs: a table, quality against size and latency, and the best under limits."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from distill.command.options import refuse_rest

if TYPE_CHECKING:
    from distill.reporting.comparison.runs import Candidate, Comparison

_UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9}


def size(text: str) -> float:
    """Return the bytes of a size, as ``10MB``.

    Raises:
        argparse.ArgumentTypeError: if it is not a size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if not match or match[2] not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, as 10MB")
    return float(match[1]) * _UNITS[match[2]]


def milliseconds(text: str) -> float:
    """Return the milliseconds of a latency, as ``5ms``.

    Raises:
        argparse.ArgumentTypeError: if it is not a latency.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|)", text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a latency, as 5ms")
    return float(match[1]) * (1000 if match[2] == "s" else 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("runs", nargs="+", metavar="run", help="folders of finished runs; others are left out")
    parser.add_argument("--max_bytes", type=size, metavar="SIZE", help="the largest file, as 10MB")
    parser.add_argument("--max_latency", type=milliseconds, metavar="TIME", help="the longest time for a text, as 5ms")
    parser.add_argument("--html", metavar="FILE", help="write a page with a picture")


def execute(options: argparse.Namespace, rest: list[str]) -> int:
    """Print the table and the best run, write the page, and return the exit code: 1 if no run is within the limits.

    Raises:
        ConfigError: if no run is finished, or they have different tasks.
    """
    refuse_rest(rest)
    from distill.reporting.comparison.page import differences, notes, render, table
    from distill.reporting.comparison.runs import read_comparison

    comparison = read_comparison([Path(run) for run in options.runs])
    head, rows = table(comparison)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = (
            cell.ljust(w) if i in (0, 5) else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    best = comparison.best(options.max_bytes, options.max_latency)
    verdict = _verdict(comparison, best, options.max_bytes, options.max_latency)
    remarks = notes(comparison) + (differences(comparison, best) if best else [])
    print(*remarks, verdict, sep="\n")
    if options.html:
        Path(options.html).write_text(render(comparison, verdict, remarks), encoding="utf-8")
        print(options.html)
    return 0 if best else 1


def _verdict(comparison: Comparison, best: Candidate | None, max_bytes: float | None, max_latency: float | None) -> str:
    """Return which student is the best within the limits, in one sentence."""
    from distill.reporting.page import format_number

    limits = [f"at most {format_number(max_bytes, 'B')}"] if max_bytes is not None else []
    limits += [f"at most {format_number(max_latency, 'ms')} for a text"] if max_latency is not None else []
    if best is None:
        return f"No student has {' and '.join(limits)}."
    facts = f"{comparison.metric.replace('_', ' ')} {format_number(best.quality)}, {format_number(best.bytes, 'B')}"
    where = f" of those with {' and '.join(limits)}" if limits else ""
    return f"{best.name} is the best student{where}: {facts}, {format_number(best.batch_1, 'ms')} for a text."
