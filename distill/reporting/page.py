"""report.html: the report as one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from distill.reporting.calibration import reliability_curves
from distill.reporting.numbers import format_number, join, look_up, range_text
from distill.reporting.pictures import NARROW, WIDE, agreement_matrix, layer_bars, loss_curves, svg
from distill.reporting.summary import (
    answers,
    conditions,
    engine,
    is_deployed,
    main_metric,
    model_noun,
    signed,
    summary_sentence,
    table_on_test,
)

TEMPLATE = Path(__file__).with_name("template")
MAX_CLASSES = 60
"""The number of classes in a table of the page."""
ORDER = ("teacher", "teacher in onnxruntime", "student", "student in torch")


def model_table(report: dict) -> tuple[list[str], list[dict]]:
    """Return the columns with any value, and a row {name, note, is_student, cells} for each model.

    A cell is (column, value, range): of a metric its interval, of a latency its spread. An exported file that was
    measured as the student has no row of its own.
    """
    noun, student = model_noun(report), report["models"]["student"]
    entries = [(name, engine(model), model) for name, model in report["models"].items() if model]
    deployed = {}
    for export in report.get("exports") or []:
        difference = export.get("largest_difference")
        parity = None if difference is None else f"logits within {format_number(difference)}"
        note = join(", ", export.get("path"), parity)
        if is_deployed(export, student):
            deployed = {"note": note, "agreement": export.get("agreement")}
        else:
            entries.append((export["format"], note, export))
    if report.get("baseline"):
        entries.append(("constant prediction", "reads no input", {"metrics": report["baseline"]}))
    order = {name: i for i, name in enumerate(ORDER)}
    entries.sort(key=lambda entry: order.get(entry[0], len(order)))
    metrics = dict.fromkeys(metric for *_, entry in entries for metric in entry.get("metrics") or {})
    columns = [(metric.replace("_", " "), "", ("metrics", metric), ("intervals", metric)) for metric in metrics] + [
        ("parameters", "n", ("parameters",), ()),
        ("non-zero", "n", ("nonzero_parameters",), ()),
        ("size", "B", ("bytes",), ()),
        ("batch 1", "ms", ("latency_ms", "batch_1"), ("latency_spread_ms", "batch_1")),
        ("batch 32", "ms", ("latency_ms", "batch_32"), ("latency_spread_ms", "batch_32")),
        ("as trained", "%", ("agreement",), ()),
    ]
    entries = [
        (name, join(", ", note, deployed["note"]), entry | {"agreement": deployed["agreement"]})
        if name == "student" and deployed
        else (name, note, entry)
        for name, note, entry in entries
    ]
    columns = [column for column in columns if any(look_up(entry, column[2]) is not None for *_, entry in entries)]
    rows = []
    for name, note, entry in entries:
        cells = [
            (
                label,
                format_number(look_up(entry, path), unit),
                range_text(look_up(entry, edges) if edges else None, unit),
            )
            for label, unit, path, edges in columns
        ]
        is_student = name == "student"
        rows.append({"name": name.replace("student", noun), "note": note, "is_student": is_student, "cells": cells})
    return [label for label, *_ in columns], rows


def class_table(classes: dict[str, list[dict]]) -> list[dict]:
    """Return a row {name, rows, cells} for each class, the most frequent first: F1, precision and recall by model.

    A cell is (column, value, is_worse), the last whether the student's F1 is below the teacher's by more than 0.02.
    """
    models = list(classes)
    table = []
    for parts in zip(*classes.values(), strict=True):
        scores = [part["f1"] for part in parts]
        is_worse = len(parts) == 2 and None not in scores and scores[1] < scores[0] - 0.02
        cells = [
            (f"{model} {key}", format_number(part[key]), is_worse and model == models[-1] and key == "f1")
            for key in ("f1", "precision", "recall")
            for model, part in zip(models, parts, strict=True)
        ]
        table.append({"name": parts[0]["name"], "rows": parts[-1]["rows"], "cells": cells})
    return sorted(table, key=lambda row: -row["rows"])


def slice_table(slices: list[dict]) -> list[dict]:
    """Return a row {name, note, cells} for each slice; the note is the metric if it is not the same for all.

    A cell is (column, value, interval, is_worse), the last whether the student loses more than on all rows.
    """
    metrics = {part["metric"] for part in slices}
    table = []
    for part in slices:
        alone = len(part["scores"]) == 1
        cells = [("rows", f"{part['rows']:,}", "", False)]
        for name, score in part["scores"].items():
            edges = range_text(part["interval"]) if alone else ""
            cells.append((name, format_number(score), edges, False))
        if not alone:
            known = math.isfinite(part["difference"])
            edges = " to ".join(map(signed, part["interval"])) if known else ""
            cells.append(("difference", signed(part["difference"]) if known else "–", edges, part["loses_more"]))
        note = part["metric"].replace("_", " ") if len(metrics) > 1 else ""
        table.append({"name": part["name"], "note": note, "cells": cells})
    return table


def label_tables(report: dict) -> list[dict]:
    """Return for each task what was joined before the first step: values of the data, classes, outputs of the models.

    A row is (class, values of the data, the outputs that count as it by model), in text.
    """
    preflight, tables = report.get("preflight") or {}, []
    outputs = {name: pairs for name, pairs in (preflight.get("outputs") or {}).items() if pairs}
    for task, labels in (preflight.get("labels") or {}).items():
        if not labels:
            continue
        full_name = {label: f"{task}/{label}" if task else label for label in labels.values()}
        rows = []
        for label in dict.fromkeys(labels.values()):
            values = [value for value, target in labels.items() if target == label]
            columns = [
                ", ".join(output for output, target in pairs.items() if target in (label, full_name[label])) or "–"
                for pairs in outputs.values()
            ]
            rows.append([label, ", ".join(values), *columns])
        head = ["class", "value in the data", *(f"output of {name}" for name in outputs)]
        more = max(0, len(rows) - MAX_CLASSES)
        tables.append({"task": task, "head": head, "rows": rows[:MAX_CLASSES], "more": more})
    return tables


def responsive_svg(draw: Callable[[float], Figure], label: str) -> Markup:
    """Return the figure of ``draw(width)`` for a desktop and for a phone; the page shows the one that fits.

    ``label`` describes it to those who do not see it.
    """
    figures = {"wide": draw(WIDE), "narrow": draw(NARROW)}
    sizes = {name: figure.get_figwidth() for name, figure in figures.items()}
    if sizes["wide"] == sizes["narrow"]:  # small enough to be the same for both
        figures, sizes = {"": figures["narrow"]}, {"": sizes["narrow"]}
    parts = [
        Markup('<div class="{}" role="img" aria-label="{}" style="max-width:{:.0f}px">').format(
            name, label, 104 * sizes[name]
        )
        + Markup(svg(figure))
        + Markup("</div>")
        for name, figure in figures.items()
    ]
    return Markup("").join(parts)


def render(report: dict, rows: list[dict], details: dict) -> str:
    """Return the page as HTML; a section without data is left out, and all text is escaped.

    Args:
        report: the data of report.json; only ``name`` and ``models.student`` are required.
        rows: the rows of metrics.csv, None for a missing value.
        details: may hold ``layers``, ``classes``, ``slices``, ``calibration``, ``agreement`` {labels, counts},
            ``examples``, ``changed``, ``rows`` and ``skipped``.
    """
    timeline, layers = report.get("timeline") or [], details.get("layers") or []
    steps = max([0, *(row["step"] for row in rows), *(entry["stop_step"] for entry in timeline)])
    agreement, noun = details.get("agreement") or {}, model_noun(report)
    counts, labels = agreement.get("counts") or [], agreement.get("labels") or []
    calibration = {name.replace("student", noun): part for name, part in (details.get("calibration") or {}).items()}
    classes = {name.replace("student", noun): part for name, part in (details.get("classes") or {}).items()}
    table = class_table(classes) if classes else []
    slices = [
        part | {"scores": {name.replace("student", noun): score for name, score in part["scores"].items()}}
        for part in details.get("slices") or []
    ]
    test_head, *test_rows = table_on_test(report) or [[]]
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=FileSystemLoader(TEMPLATE, encoding="utf-8")
    )
    environment.filters["show"] = format_number
    columns, models = model_table(report)
    return environment.get_template("page.html").render(
        report=report,
        noun=noun,
        sentence=summary_sentence(report),
        answers=answers(report),
        conditions=conditions(report),
        metric=main_metric(report).replace("_", " "),
        columns=columns,
        models=models,
        test_head=test_head,
        test_rows=test_rows,
        curves=responsive_svg(
            partial(loss_curves, rows, timeline, steps), "Curves of metrics and losses over the steps, and the timeline"
        )
        if rows or timeline
        else "",
        logged=len(rows),
        layers=layers,
        bars=responsive_svg(partial(layer_bars, layers), "Sparsity and bits of each layer") if layers else "",
        skipped=details.get("skipped") or [],
        classes=table[:MAX_CLASSES],
        more_classes=max(0, len(table) - MAX_CLASSES),
        slices=slice_table(slices),
        worse_slices=[part for part in slices if part["loses_more"]],
        calibration=calibration,
        reliability=responsive_svg(
            partial(reliability_curves, calibration), "Share of right predictions over confidence"
        )
        if calibration
        else "",
        agreement=responsive_svg(
            partial(agreement_matrix, counts, labels), "Predictions of the student for each prediction of the teacher"
        )
        if labels
        else "",
        answered=sum(map(sum, counts)),
        agreed=sum(row[i] for i, row in enumerate(counts)),
        examples=details.get("examples") or [],
        changed=details.get("changed"),
        validation_rows=details.get("rows"),
        joined=label_tables(report),
    )
