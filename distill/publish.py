"""The result, where people look: report.json, report.html, the terminal, Weights & Biases."""

from __future__ import annotations

from lightning.pytorch.loggers import Logger, WandbLogger

from distill.deploy import Deployed
from distill.files import write_text
from distill.measure import Measured
from distill.metrics_csv import read_rows
from distill.page import render
from distill.pictures import agreement_matrix, layer_bars, loss_curves
from distill.report import Export, Report


def doubts(models: dict[str, Measured], exports: list[Export], deployed: Deployed) -> list[str]:
    """What a reader of the figures should know."""
    # Rounded inputs turn a difference in the last bit into one of a whole code here and there; rounded weights do not.
    limits = {"folded": 1e-4}
    if deployed.exact:
        limits |= {"cut": 1e-3, "vocabulary": 1e-3, "exported": 1e-3}
    found = [
        f"the {what} student's logits are up to {deployed.parity[what]:.1g} from those it had in training"
        for what, limit in limits.items()
        if deployed.parity.get(what, 0) > limit
    ]
    found += [
        f"{export.path} agrees with the student in torch on {export.agreement:.1%} of the validation rows only"
        for export in exports
        if export.agreement < 0.995
    ]
    found += [doubt for export in exports for doubt in export.doubts]
    parameters = models["student"].parameters
    found += [
        f"{export.path} takes {export.bytes} bytes, no less than the same model in bfloat16 ({2 * parameters})"
        for export in exports
        if export.precision.startswith("partly")
    ]
    return found


def publish(report: Report, details: dict, loggers: list[Logger]) -> None:
    """Writes report.html and report.json, by which the run is done, and sends table and pictures to Weights & Biases if
    it is watched.
    """
    rows = read_rows(report.folder / "metrics.csv")
    write_text(report.folder / "report.html", render(report.to_json(), rows, details))
    report.write()
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _to_wandb(logger, report, rows, details)


def _to_wandb(logger: WandbLogger, report: Report, rows: list[dict], details: dict) -> None:
    import wandb  # a second to import, and only here needed

    columns = [
        "model",
        "parameters",
        "nonzero_parameters",
        "bytes",
        "runtime",
        "precision",
        *sorted(report.models["student"].metrics),
        *report.models["student"].latency_ms,
    ]
    data = [
        [name, *({**vars(model), **model.metrics, **model.latency_ms}[c] for c in columns[1:])]
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


def summary(report: Report) -> str:
    """The table for the terminal."""
    from distill.page import show

    head = ["", report.main_metric, "parameters", "size", "batch 1", "batch 32", "runtime"]
    lines = [head] + [
        [
            name,
            show(model.metrics[report.main_metric]),
            show(model.parameters, "n"),
            show(model.bytes, "B"),
            show(model.latency_ms["batch_1"], "ms"),
            show(model.latency_ms["batch_32"], "ms"),
            f"{model.runtime} {model.precision}",
        ]
        for name, model in report.models.items()
    ]
    widths = [max(len(row[i]) for row in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, 6) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    )
