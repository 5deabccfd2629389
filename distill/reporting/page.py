"""report.html: the report as one self-contained page."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from distill.reporting.pictures import NARROW, WIDE, agreement_matrix, layer_bars, loss_curves, svg

LOWER_IS_BETTER = {"loss", "perplexity", "mse", "rmse", "mae"}
TEMPLATE = Path(__file__).with_name("page.html")
SIZE, SPEED, COUNT = ("smaller", "larger", "as large"), ("faster", "slower", "as fast"), ("fewer", "more", "as many")
PREFIXES = {"B": [" B", " kB", " MB", " GB", " TB"], "n": ["", " k", " M", " bn", " tn"]}


def format_number(value: float | None, unit: str = "") -> str:
    """Return a number as text for people, a dash for None.

    Units: "%" (of 1), "B" (bytes), "n" (a count), "ms", "s" (a duration), "x" (a ratio), "" (a score).
    """
    if value is None or not math.isfinite(value):
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "s" and value >= 60:
        hours, minutes = divmod(round(value / 60), 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min"
    power = 0
    if unit in PREFIXES:
        while abs(value) >= 999.5 and power < 4:
            value, power = value / 1000, power + 1
    suffix = PREFIXES[unit][power] if unit in PREFIXES else {"x": " ×", "ms": " ms", "s": " s", "": ""}[unit]
    if 0 < abs(value) < 0.001:
        return f"{value:.1e}{suffix}"
    digits = {"": 4, "x": 2}.get(unit, 3)
    before_point = math.floor(math.log10(abs(value))) + 1 if value else 1
    after_point = 0 if unit in PREFIXES and not power else max(0, digits - max(before_point, 0))
    return f"{value:,.{after_point}f}{suffix}"


def ratio_text(ratio: float, words: tuple[str, str, str]) -> tuple[str, str]:
    """Return a positive ratio as text: with ``SIZE``, 5.5 is ("5.5 ×", "smaller"), 0.5 is ("2.0 ×", "larger")."""
    above, below, equal = words
    number, word = (format_number(ratio, "x"), above) if ratio >= 1 else (format_number(1 / ratio, "x"), below)
    return number, equal if number == format_number(1, "x") else word


def join(separator: str, *parts: str | None) -> str:
    """Join the parts that are not empty."""
    return separator.join(part for part in parts if part)


def measured_with(report: dict) -> str:
    """Return how the student's latency was measured, as in "onnxruntime int8, 2 threads"."""
    student, threads = report["models"]["student"], report.get("hardware", {}).get("threads")
    engine = join(" ", student.get("runtime"), student.get("precision"))
    return join(", ", engine, threads and f"{threads} thread{'s' * (threads > 1)}")


def main_metric(report: dict) -> str:
    """Return the main metric of the report, else the student's first."""
    metrics = report["models"]["student"].get("metrics") or {}
    return report.get("main_metric") or next(iter(metrics), "quality")


def summary_sentence(report: dict) -> str:
    """Return the result of the run in one sentence."""
    student, ratios, metric = report["models"]["student"], report.get("ratios") or {}, main_metric(report)
    score, batch_1 = look_up(student, ("metrics", metric)), look_up(student, ("latency_ms", "batch_1"))
    name, parts = metric.replace("_", " "), []
    if ratios.get("retained") and metric in LOWER_IS_BETTER:
        parts.append(f"has {format_number(ratios['retained'])} times the teacher's {name}")
    elif ratios.get("retained"):
        parts.append(f"keeps {format_number(ratios['retained'], '%')} of the teacher's {name}")
    elif score is not None:
        parts.append(f"reaches {name} {format_number(score)}")
    if ratios.get("smaller"):
        number, word = ratio_text(ratios["smaller"], SIZE)
        parts.append(f"{number.replace('×', 'times')} {word}")
    elif student.get("bytes"):
        parts.append(f"takes {format_number(student['bytes'], 'B')}")
    runtime = f" ({measured_with(report)})" if measured_with(report) else ""
    if ratios.get("faster_batch_1"):
        number, word = ratio_text(ratios["faster_batch_1"], SPEED)
        parts.append(f"{number.replace('×', 'times')} {word} at batch 1{runtime}")
    elif batch_1:
        parts.append(f"answers in {format_number(batch_1, 'ms')} at batch 1{runtime}")
    return "The student " + ", ".join(parts) + "." if parts else "Nothing was measured."


def look_up(entry: dict | None, path: tuple[str, ...]) -> float | None:
    """Return the number under nested keys, None if one of them is missing."""
    for key in path:
        entry = (entry or {}).get(key)
    return entry


def model_table(report: dict) -> tuple[list[str], list[dict]]:
    """Return the columns with any value, and a row {name, note, cells} for each model and export."""
    entries = [
        (name, join(" ", model.get("runtime"), model.get("precision")), model)
        for name, model in report["models"].items()
        if model
    ]
    for export in report.get("exports") or []:
        difference = export.get("largest_difference")
        parity = None if difference is None else f"logits within {format_number(difference)}"
        entries.append((export["format"], join(", ", export.get("path"), parity), export))
    metrics = dict.fromkeys(metric for *_, entry in entries for metric in entry.get("metrics") or {})
    columns = [(metric.replace("_", " "), "", ("metrics", metric)) for metric in metrics] + [
        ("parameters", "n", ("parameters",)),
        ("non-zero", "n", ("nonzero_parameters",)),
        ("size", "B", ("bytes",)),
        ("batch 1", "ms", ("latency_ms", "batch_1")),
        ("batch 32", "ms", ("latency_ms", "batch_32")),
        ("as student", "%", ("agreement",)),
    ]
    columns = [
        (label, unit, path)
        for label, unit, path in columns
        if any(look_up(entry, path) is not None for *_, entry in entries)
    ]
    rows = []
    for name, note, entry in entries:
        cells = [(label, format_number(look_up(entry, path), unit)) for label, unit, path in columns]
        rows.append({"name": name, "note": note, "cells": cells})
    return [label for label, *_ in columns], rows


def savings_tiles(report: dict) -> list[tuple[str, str, str]]:
    """Return what was saved, as (amount, quantity, change); empty without a teacher."""
    teacher, student = report["models"].get("teacher"), report["models"]["student"]
    ratios, metric, tiles = report.get("ratios") or {}, main_metric(report), []
    if not teacher:
        return tiles
    fewer = {
        key: teacher[key] / student[key] if teacher.get(key) and student.get(key) else None
        for key in ("nonzero_parameters", "flops_per_example")
    }
    facts = [
        (ratios.get("smaller"), SIZE, "", "B", ("bytes",)),
        (ratios.get("faster_batch_1"), SPEED, " at batch 1", "ms", ("latency_ms", "batch_1")),
        (ratios.get("faster_batch_32"), SPEED, " at batch 32", "ms", ("latency_ms", "batch_32")),
        (fewer["nonzero_parameters"], COUNT, " non-zero weights", "n", ("nonzero_parameters",)),
        (fewer["flops_per_example"], COUNT, " FLOPs", "n", ("flops_per_example",)),
    ]
    name = metric.replace("_", " ")
    if ratios.get("retained"):
        before, after = (format_number(look_up(model, ("metrics", metric))) for model in (teacher, student))
        tiles.append((format_number(ratios["retained"], "%"), f"of the {name}", f"{before} → {after}"))
    for ratio, words, quantity, unit, path in facts:
        if ratio:
            number, word = ratio_text(ratio, words)
            before, after = (format_number(look_up(model, path), unit) for model in (teacher, student))
            tiles.append((number, word + quantity, f"{before} → {after}"))
    return tiles


def responsive_svg(draw: Callable[[float], Figure]) -> Markup:
    """Return the figure of ``draw(width)`` for a desktop and for a phone; the page shows the one that fits."""
    figures = {"wide": draw(WIDE), "narrow": draw(NARROW)}
    sizes = {name: figure.get_figwidth() for name, figure in figures.items()}
    if sizes["wide"] == sizes["narrow"]:  # small enough to be the same for both
        figures, sizes = {"": figures["narrow"]}, {"": sizes["narrow"]}
    return Markup("".join(
        f'<div class="{name}" style="max-width:{104 * sizes[name]:.0f}px">{svg(figure)}</div>'
        for name, figure in figures.items()
    ))  # fmt: skip


def render(report: dict, rows: list[dict], details: dict) -> str:
    """Return the page as HTML; a section without data is left out, and all text is escaped.

    Args:
        report: the data of report.json; only ``name`` and ``models.student`` are required.
        rows: the rows of metrics.csv, None for a missing value.
        details: may hold ``layers``, ``agreement`` {labels, counts}, ``examples`` and ``skipped``.
    """
    timeline, layers = report.get("timeline") or [], details.get("layers") or []
    steps = max([0, *(row["step"] for row in rows), *(entry["stop_step"] for entry in timeline)])
    agreement = details.get("agreement") or {}
    counts, labels = agreement.get("counts") or [], agreement.get("labels") or []
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["show"] = format_number
    columns, models = model_table(report)
    return environment.from_string(TEMPLATE.read_text()).render(
        report=report,
        sentence=summary_sentence(report),
        measured_with=measured_with(report),
        columns=columns,
        models=models,
        tiles=savings_tiles(report),
        curves=responsive_svg(partial(loss_curves, rows, timeline, steps)) if rows or timeline else "",
        logged=len(rows),
        layers=len(layers),
        bars=responsive_svg(partial(layer_bars, layers)) if layers else "",
        skipped=details.get("skipped") or [],
        agreement=responsive_svg(partial(agreement_matrix, counts, labels)) if labels else "",
        answers=sum(map(sum, counts)),
        agreed=sum(row[i] for i, row in enumerate(counts)),
        examples=details.get("examples") or [],
    )
