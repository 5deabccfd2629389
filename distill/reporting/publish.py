"""Publish the report: report.json, report.html, a table in the terminal, trackers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.loggers import Logger

from distill.experiment.monitoring import Display
from distill.reporting.page import render
from distill.reporting.pictures import agreement_matrix, layer_bars, loss_curves
from distill.reporting.report import Report
from distill.reporting.summary import table_on_test
from distill.run_dir.files import write_text
from distill.training.callbacks.display.messages import say
from distill.training.callbacks.metrics_csv import read_rows
from distill.training.callbacks.trackers.tracker import Results, Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def publish(report: Report, details: dict, loggers: list[Logger]) -> None:
    """Write report.html, then report.json, which marks the run as done; give the results to the trackers."""
    rows = read_rows(report.folder / "metrics.csv")
    write_text(report.folder / "report.html", render(report.to_json(), rows, details))
    report.write()
    if trackers := [logger for logger in loggers if isinstance(logger, Tracker)]:
        results = Results(report.to_json(), _figures(report, rows, details), report.folder)
        for tracker in trackers:
            tracker.attempt(lambda tracker=tracker: tracker.log_results(results))


def _figures(report: Report, rows: list[dict], details: dict) -> dict[str, Figure]:
    figures = {"curves": loss_curves(rows, report.timeline, max((row["step"] for row in rows), default=1))}
    if details.get("layers"):
        figures["layers"] = layer_bars(details["layers"])
    if details.get("agreement"):
        figures["agreement"] = agreement_matrix(details["agreement"]["counts"], details["agreement"]["labels"])
    return figures


def say_report(report: Report, display: Display) -> None:
    """Print the table, the warnings and, as the last line, the path of the page; in quiet mode the path alone."""
    page = report.folder / "report.html"
    if display.mode == "quiet":
        print(f"report: {page}", flush=True)
        return
    say(display, report.name, "report", f"{summary(report)}\nreport: {page}", {"report": str(page), **_facts(report)})


def _facts(report: Report) -> dict:
    """Return what the table shows, as plain data."""
    data = report.to_json()
    return {key: data[key] for key in ("main_metric", "models", "ratios", "test", "warnings")}


def _test_lines(report: Report) -> list[str]:
    """Return the main metric on test rows, a line a model."""
    head, *rows = table_on_test(report.to_json()) or [[]]
    column = head.index(report.main_metric.replace("_", " ")) if head else 0
    return [f"{report.main_metric} of the {row[0]} {row[column]}" for row in rows if "minus" not in row[0]]


def summary(report: Report) -> str:
    """Return the table and the warnings for the terminal."""
    from distill.reporting.page import format_number

    head = ["", report.main_metric, "parameters", "size", "batch 1", "batch 32", "runtime"]
    lines = [head] + [
        [
            name,
            format_number(model.metrics.get(report.main_metric)),
            format_number(model.parameters, "n"),
            format_number(model.bytes, "B"),
            format_number(model.latency_ms.get("batch_1"), "ms"),
            format_number(model.latency_ms.get("batch_32"), "ms"),
            f"{model.runtime} {model.precision}",
        ]
        for name, model in report.models.items()
    ]
    widths = [max(len(row[i]) for row in lines) for i in range(len(head))]
    table = [
        "  ".join(
            cell.ljust(width) if i in (0, 6) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    ]
    test = [f"on test rows: {line}" for line in _test_lines(report)]
    return "\n".join([*table, *test, *(f"warning: {warning}" for warning in report.to_json()["warnings"])])
