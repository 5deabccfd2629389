"""Write the tables of docs/results.md from the reports in docs/results/.

python -m benchmarks.pages.results
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from benchmarks.pages.tables import table, write

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "results.md"
LOWER_IS_BETTER = {"perplexity"}
COLUMNS = ("report", "teacher", "student", "kept", "MB", "batch 1, ms", "batch 32, ms", "student's file")


def reports() -> dict[str, list[tuple[Path, dict]]]:
    """Return the reports of runs with a teacher, by task and metric."""
    found: dict[str, list[tuple[Path, dict]]] = {}
    for file in sorted((DOCS / "results").rglob("*.json")):
        report = json.loads(file.read_text())
        if "teacher" in report.get("models", {}):
            found.setdefault(f"{report['task']}: {main_metric(report)}", []).append((file, report))
    return found


def main_metric(report: dict) -> str:
    """Return the metric that chose the best checkpoint; reports of the first days do not name it: it is their first."""
    return report.get("main_metric") or next(iter(report["models"]["student"]["metrics"]))


def row(file: Path, report: dict) -> list[str]:
    """Return the cells of a report."""
    teacher, student = (report["models"][name] for name in ("teacher", "student"))
    metric = main_metric(report)
    values = [model["metrics"][metric] for model in (teacher, student)]
    kept = "" if metric in LOWER_IS_BETTER else f"{100 * values[1] / values[0]:.1f} %"
    latencies = [
        " → ".join(significant(model["latency_ms"][batch]) for model in (teacher, student))
        for batch in ("batch_1", "batch_32")
    ]
    return [
        f"[{file.relative_to(DOCS / 'results').with_suffix('')}]({file.relative_to(DOCS)})",
        *(f"{value:.4f}" if abs(value) <= 1 else f"{value:.2f}" for value in values),
        kept,
        " → ".join(significant(model["bytes"] / 1e6) for model in (teacher, student)),
        *latencies,
        f"{student['runtime']} {student['precision']}",
    ]


def significant(value: float) -> str:
    """Return a number with three significant digits."""
    decimals = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"


def text() -> str:
    """Return a table for each task and metric."""
    parts = [
        f"### {title}\n\n{table(COLUMNS, [row(file, report) for file, report in found])}"
        for title, found in reports().items()
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    write(PAGE, text())
