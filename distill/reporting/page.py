"""report.html: what was kept, what was saved and how it went, on one page that needs nothing but itself."""

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
    """A number as people write it, a dash where there is none.

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
    """A ratio above 0 as one says it, of size: 5.5 is ("5.5 ×", "smaller"), 0.5 ("2.0 ×", "larger"), 1.01 ("1.0 ×", "as
    large")."""
    more, less, equal = words
    number, word = (format_number(ratio, "x"), more) if ratio >= 1 else (format_number(1 / ratio, "x"), less)
    return number, equal if number == format_number(1, "x") else word


def join(separator: str, *parts: str | None) -> str:
    """The parts that there are."""
    return separator.join(part for part in parts if part)


def measured_on(report: dict) -> str:
    """What the student's latency was measured with: "onnxruntime int8, 2 threads"."""
    student, threads = report["models"]["student"], report.get("hardware", {}).get("threads")
    engine = join(" ", student.get("runtime"), student.get("precision"))
    return join(", ", engine, threads and f"{threads} thread{'s' * (threads > 1)}")


def main_metric(report: dict) -> str:
    """The metric a run is judged by: the one the report names, or else the student's first."""
    measured = report["models"]["student"].get("metrics") or {}
    return report.get("main_metric") or next(iter(measured), "quality")


def summary_sentence(report: dict) -> str:
    """The run in one sentence."""
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
    where = f" ({measured_on(report)})" if measured_on(report) else ""
    if ratios.get("faster_batch_1"):
        number, word = ratio_text(ratios["faster_batch_1"], SPEED)
        parts.append(f"{number.replace('×', 'times')} {word} at batch 1{where}")
    elif batch_1:
        parts.append(f"answers in {format_number(batch_1, 'ms')} at batch 1{where}")
    return "The student " + ", ".join(parts) + "." if parts else "Nothing was measured."


def look_up(entry: dict | None, path: tuple[str, ...]) -> float | None:
    """The number under nested keys, None where one of them is missing."""
    for key in path:
        entry = (entry or {}).get(key)
    return entry


def model_table(report: dict) -> tuple[list[str], list[dict]]:
    """Columns that hold anything, and for every model and export a row {name, note, cells}."""
    entries = [
        (name, join(" ", model.get("runtime"), model.get("precision")), model)
        for name, model in report["models"].items()
        if model
    ]
    for export in report.get("exports") or []:
        difference = export.get("largest_difference")
        within = None if difference is None else f"logits within {format_number(difference)}"
        entries.append((export["format"], join(", ", export.get("path"), within), export))
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


def tiles(report: dict) -> list[tuple[str, str, str]]:
    """What was saved: (how much, of what, from what to what); empty without a teacher to compare with."""
    teacher, student = report["models"].get("teacher"), report["models"]["student"]
    ratios, metric, found = report.get("ratios") or {}, main_metric(report), []
    if not teacher:
        return found
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
        found.append((format_number(ratios["retained"], "%"), f"of the {name}", f"{before} → {after}"))
    for ratio, words, of, unit, path in facts:
        if ratio:
            number, word = ratio_text(ratio, words)
            before, after = (format_number(look_up(model, path), unit) for model in (teacher, student))
            found.append((number, word + of, f"{before} → {after}"))
    return found


def responsive_svg(draw: Callable[[float], Figure]) -> Markup:
    """The figure `draw(width)` gives for a desktop and for a phone; the page shows the one that fits."""
    figures = {"wide": draw(WIDE), "narrow": draw(NARROW)}
    sizes = {name: figure.get_figwidth() for name, figure in figures.items()}
    if sizes["wide"] == sizes["narrow"]:  # small enough to be the same for both
        figures, sizes = {"": figures["narrow"]}, {"": sizes["narrow"]}
    return Markup("".join(
        f'<div class="{name}" style="max-width:{104 * sizes[name]:.0f}px">{svg(figure)}</div>'
        for name, figure in figures.items()
    ))  # fmt: skip


def render(report: dict, rows: list[dict], details: dict) -> str:
    """The page as HTML.

    `report` is report.json and needs only `name` and `models.student`; `rows` are those of metrics.csv, None
    for a missing value; `details` may hold `layers`, `agreement` {labels, counts}, `examples` and `skipped`.
    A part that is missing or empty leaves its section out. All text is escaped.
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
        measured_on=measured_on(report),
        columns=columns,
        models=models,
        tiles=tiles(report),
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
