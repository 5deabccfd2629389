"""The page of a comparison: a table, and quality against bytes and latency."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from distill.reporting.comparison.runs import Candidate, Comparison, Cost
from distill.reporting.page import format_number
from distill.reporting.pictures import ACCENT, INK, MUTED, NARROW, STYLE, WIDE, svg

TEMPLATE = Path(__file__).with_name("page.html")
COSTS: dict[Cost, tuple[str, str]] = {"bytes": ("size", "B"), "batch_1": ("latency, one text", "ms")}
"""What is drawn: {cost: (label of the axis, unit)}."""


def pareto_plot(comparison: Comparison, width: float = WIDE) -> Figure:
    """Draw quality against each cost; the Pareto front is a line, teachers are hollow."""
    columns = len(COSTS) if width == WIDE else 1
    rows = -(-len(COSTS) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(width, 2.9 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for axis, (cost, (label, unit)) in zip(axes, COSTS.items(), strict=True):
            _draw(axis, comparison, cost, label, unit)
    return figure


def _draw(axis: Axes, comparison: Comparison, cost: Cost, label: str, unit: str) -> None:
    front = comparison.front(cost)
    line = [(getattr(candidate, cost), candidate.quality) for candidate in front]
    axis.step(*zip(*line, strict=True), where="post", color=ACCENT, linewidth=1.2)
    for candidate in comparison.candidates:
        x, colour = getattr(candidate, cost), ACCENT if candidate in front else MUTED
        axis.plot(x, candidate.quality, "o", color=colour, markerfacecolor="none" if candidate.is_teacher else colour)
        axis.annotate(
            short_name(candidate),
            (x, candidate.quality),
            (-5, 4),
            textcoords="offset points",
            ha="right",
            fontsize=7,
            color=INK,
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value, unit)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.25, y=0.15)
    axis.set_xlabel(label, color=MUTED)
    axis.set_ylabel(comparison.metric.replace("_", " "), color=MUTED)
    axis.grid(axis="y")


def short_name(candidate: Candidate) -> str:
    """Return the name for a picture: the last part of the folder."""
    name = Path(candidate.name.removeprefix("teacher of ")).name
    return f"teacher of {name}" if candidate.is_teacher else name


def table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows as text; ``*`` marks what is on a Pareto front."""
    fronts = {cost: comparison.front(cost) for cost in ("bytes", "batch_1", "batch_32")}
    head = ["model", comparison.metric, "size", "batch 1", "batch 32", "runtime"]
    rows = [
        [
            candidate.name,
            format_number(candidate.quality),
            format_number(candidate.bytes, "B") + " *" * (candidate in fronts["bytes"]),
            format_number(candidate.batch_1, "ms") + " *" * (candidate in fronts["batch_1"]),
            format_number(candidate.batch_32, "ms") + " *" * (candidate in fronts["batch_32"]),
            candidate.runtime,
        ]
        for candidate in comparison.candidates
    ]
    return head, rows


def render(comparison: Comparison, verdict: str, remarks: list[str]) -> str:
    """Return the page: ``verdict`` is its first sentence, ``remarks`` stand below the table."""
    head, rows = table(comparison)
    environment = Environment(autoescape=True)
    pictures = [svg(pareto_plot(comparison, width)) for width in (WIDE, NARROW)]
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        head=head, rows=rows, verdict=verdict, wide=pictures[0], narrow=pictures[1], notes=remarks
    )


def differences(comparison: Comparison, best: Candidate) -> list[str]:
    """Return for each other student how sure it is that the best one is better, a sentence each."""
    sentences = []
    for other in comparison.candidates:
        if other.is_teacher or other == best:
            continue
        interval = comparison.difference(best, other)
        if interval is None:
            sentences.append(f"{best.name} and {other.name} were not measured on the same rows")
            continue
        low, high = interval
        verdict = "the difference is noise" if low <= 0 <= high else "more than noise"
        difference, edges = best.quality - other.quality, f"{low:+.4f} to {high:+.4f}"
        sentences.append(f"{best.name} minus {other.name}: {difference:+.4f}, 95 % interval {edges}: {verdict}")
    return sentences


def notes(comparison: Comparison) -> list[str]:
    """Return remarks on what can be compared."""
    lines = ["* no other model here has higher quality at no more of that cost"]
    if len(comparison.machines) > 1:
        machines = "; ".join(comparison.machines)
        lines.append(f"latencies are of different machines ({machines}); `distill bench` measures them on one")
    lines += [f"{folder}: is no finished run, left out" for folder in comparison.skipped]
    return lines
