"""Publish the report: report.json, report.html, a table in the terminal, Weights & Biases."""

from __future__ import annotations

from lightning.pytorch.loggers import Logger, WandbLogger

from distill.experiment.monitoring import Display
from distill.reporting.page import render
from distill.reporting.pictures import agreement_matrix, layer_bars, loss_curves
from distill.reporting.report import Report
from distill.run_dir.files import write_text
from distill.training.callbacks.display.messages import say
from distill.training.callbacks.metrics_csv import read_rows


def publish(report: Report, details: dict, loggers: list[Logger]) -> None:
    """Write report.html, then report.json, which marks the run as done; log table and pictures to Weights & Biases."""
    rows = read_rows(report.folder / "metrics.csv")
    write_text(report.folder / "report.html", render(report.to_json(), rows, details))
    report.write()
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _to_wandb(logger, report, rows, details)


def _to_wandb(logger: WandbLogger, report: Report, rows: list[dict], details: dict) -> None:
    import wandb  # takes a second to import, and is only needed here

    columns = [
        "model",
        "parameters",
        "nonzero_parameters",
        "bytes",
        "runtime",
        "precision",
        *sorted(metrics := report.models["student"].metrics),
        *report.models["student"].latency_ms,
    ]
    unknown = dict.fromkeys(metrics)  # of the teacher in onnxruntime only the latency is measured
    data = [
        [name, *({**unknown, **vars(model), **model.metrics, **model.latency_ms}[c] for c in columns[1:])]
        for name, model in report.models.items()
    ]
    logger.experiment.log({"report": wandb.Table(columns=columns, data=data)})
    figures = {"curves": loss_curves(rows, report.timeline, max((row["step"] for row in rows), default=1))}
    if details.get("layers"):
        figures["layers"] = layer_bars(details["layers"])
    if details.get("agreement"):
        figures["agreement"] = agreement_matrix(details["agreement"]["counts"], details["agreement"]["labels"])
    logger.experiment.log({f"pictures/{name}": wandb.Image(figure) for name, figure in figures.items()})
    logger.experiment.summary.update(report.ratios | {"timeline": report.timeline})
    wandb.finish()


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
    return {key: data[key] for key in ("main_metric", "models", "ratios", "warnings")}


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
            format_number(model.latency_ms["batch_1"], "ms"),
            format_number(model.latency_ms["batch_32"], "ms"),
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
    return "\n".join([*table, *(f"warning: {warning}" for warning in report.to_json()["warnings"])])
