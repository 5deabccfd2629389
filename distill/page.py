"""report.html: what was kept, what was saved and how it went, on one page that needs nothing but itself."""

import math
from collections.abc import Callable
from functools import partial

from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from distill.pictures import NARROW, WIDE, agreement_matrix, layer_bars, loss_curves, svg

LOWER_IS_BETTER = {"loss", "perplexity", "mse", "rmse", "mae"}
PREFIXES = {"B": [" B", " kB", " MB", " GB", " TB"], "n": ["", " k", " M", " bn", " tn"]}


def show(value: float | None, unit: str = "") -> str:
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


def compared(ratio: float, better: str, worse: str) -> tuple[str, str]:
    """A ratio above 0 as one says it: 5.5 is ("5.5", "smaller"), 0.5 is ("2.0", "larger")."""
    return (show(ratio, "x"), better) if ratio >= 1 else (show(1 / ratio, "x"), worse)


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


def result(report: dict) -> str:
    """The run in one sentence."""
    student, ratios, metric = report["models"]["student"], report.get("ratios") or {}, main_metric(report)
    score, batch_1 = look_up(student, ("metrics", metric)), look_up(student, ("latency_ms", "batch_1"))
    name, parts = metric.replace("_", " "), []
    if ratios.get("retained") and metric in LOWER_IS_BETTER:
        parts.append(f"has {show(ratios['retained'])} times the teacher's {name}")
    elif ratios.get("retained"):
        parts.append(f"keeps {show(ratios['retained'], '%')} of the teacher's {name}")
    elif score is not None:
        parts.append(f"reaches {name} {show(score)}")
    if ratios.get("smaller"):
        number, word = compared(ratios["smaller"], "smaller", "larger")
        parts.append(f"{number.replace('×', 'times')} {word}")
    elif student.get("bytes"):
        parts.append(f"takes {show(student['bytes'], 'B')}")
    where = f" ({measured_on(report)})" if measured_on(report) else ""
    if ratios.get("faster_batch_1"):
        number, word = compared(ratios["faster_batch_1"], "faster", "slower")
        parts.append(f"{number.replace('×', 'times')} {word} at batch 1{where}")
    elif batch_1:
        parts.append(f"answers in {show(batch_1, 'ms')} at batch 1{where}")
    return "The student " + ", ".join(parts) + "." if parts else "Nothing was measured."


def look_up(entry: dict | None, path: tuple[str, ...]) -> float | None:
    """The number under nested keys, None where one of them is missing."""
    for key in path:
        entry = (entry or {}).get(key)
    return entry


def table(report: dict) -> tuple[list[str], list[dict]]:
    """Columns that hold anything, and for every model and export a row {name, note, cells}."""
    entries = [
        (name, join(" ", model.get("runtime"), model.get("precision")), model)
        for name, model in report["models"].items()
        if model
    ]
    for export in report.get("exports") or []:
        difference = export.get("largest_difference")
        within = None if difference is None else f"logits within {show(difference)}"
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
        cells = [(label, show(look_up(entry, path), unit)) for label, unit, path in columns]
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
        (ratios.get("smaller"), "smaller", "larger", "", "B", ("bytes",)),
        (ratios.get("faster_batch_1"), "faster", "slower", " at batch 1", "ms", ("latency_ms", "batch_1")),
        (ratios.get("faster_batch_32"), "faster", "slower", " at batch 32", "ms", ("latency_ms", "batch_32")),
        (fewer["nonzero_parameters"], "fewer", "more", " non-zero weights", "n", ("nonzero_parameters",)),
        (fewer["flops_per_example"], "fewer", "more", " FLOPs", "n", ("flops_per_example",)),
    ]
    name = metric.replace("_", " ")
    if ratios.get("retained"):
        before, after = (show(look_up(model, ("metrics", metric))) for model in (teacher, student))
        found.append((show(ratios["retained"], "%"), f"of the {name}", f"{before} → {after}"))
    for ratio, better, worse, of, unit, path in facts:
        if ratio:
            number, word = compared(ratio, better, worse)
            before, after = (show(look_up(model, path), unit) for model in (teacher, student))
            found.append((number, word + of, f"{before} → {after}"))
    return found


def picture(draw: Callable[[float], Figure]) -> Markup:
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
    environment.filters["show"] = show
    columns, models = table(report)
    return environment.from_string(PAGE).render(
        report=report,
        style=Markup(STYLE),
        sentence=result(report),
        measured_on=measured_on(report),
        columns=columns,
        models=models,
        tiles=tiles(report),
        curves=picture(partial(loss_curves, rows, timeline, steps)) if rows or timeline else "",
        logged=len(rows),
        layers=len(layers),
        bars=picture(partial(layer_bars, layers)) if layers else "",
        skipped=details.get("skipped") or [],
        agreement=picture(partial(agreement_matrix, counts, labels)) if labels else "",
        answers=sum(map(sum, counts)),
        agreed=sum(row[i] for i, row in enumerate(counts)),
        examples=details.get("examples") or [],
    )


STYLE = """
:root { --ink: #1c2430; --muted: #67707e; --rule: #e1e5ea; --accent: #0b7a6f; --paper: #fefefe;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  --serif: Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, "Liberation Serif", serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --muted: #98a2af; --rule: #2b323b; --accent: #52c0b0; --paper: #14181d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 50rem; padding: 3rem 1.25rem 5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 var(--sans); font-variant-numeric: tabular-nums;
  overflow-wrap: break-word; }
h1, h2, .lead, blockquote { font-family: var(--serif); text-wrap: balance; }
h1 { margin: 0; font-size: 1.1rem; font-weight: 600; color: var(--accent); }
h2 { margin: 3.5rem 0 1rem; padding-top: .8rem; border-top: 1px solid var(--rule); font-size: 1.35rem;
  font-weight: 600; }
.lead { margin: .4rem 0 .8rem; font-size: clamp(1.5rem, 1.1rem + 2vw, 2.1rem); line-height: 1.25; }
.none { color: var(--muted); }
.note, figcaption, th, dt, summary, td small { color: var(--muted); font-size: .85rem; font-weight: 400; }
a { color: var(--accent); white-space: nowrap; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
th, td { padding: .55rem 0 .55rem .6rem; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; min-width: 9rem; text-align: left; white-space: normal;
  overflow-wrap: anywhere; }
tbody tr { border-top: 1px solid var(--rule); }
td small { display: block; }
.student td { color: var(--accent); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1.5rem 1.25rem;
  margin: 0; }
.tiles dt { color: var(--ink); font-size: 1rem; }
.tiles b { display: block; color: var(--accent); font: 2rem/1.15 var(--serif); }
.tiles dd { margin: 0; color: var(--muted); font-size: .85rem; }
figure { margin: 0; }
figcaption { margin-bottom: 1rem; max-width: 40rem; }
svg { display: block; width: 100%; height: auto; }
svg * { stroke-linejoin: round; }
.narrow { display: none; }
summary { cursor: pointer; margin-bottom: 1rem; }
.examples { margin: 0; padding: 0; list-style: none; }
.examples li { padding: 1rem 0; border-top: 1px solid var(--rule); }
.examples li:first-child { border: 0; padding-top: 0; }
blockquote { margin: 0 0 .4rem; font-size: 1.1rem; line-height: 1.45; text-wrap: pretty; }
.said { display: flex; flex-wrap: wrap; gap: .1rem 1.6rem; margin: 0; }
.said div { display: flex; gap: .45rem; align-items: baseline; }
.said dd { margin: 0; }
.wrong { color: var(--accent); font-weight: 600; }
.warnings { margin: 0; padding: 0; list-style: none; }
.warnings li { margin-bottom: .8rem; padding-left: 1rem; border-left: 3px solid var(--accent); }
pre span { display: inline-block; }
pre { margin: 0 0 1.2rem; font: .85rem/1.5 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; margin: 0; }
.facts dd { margin: 0; font-size: .9rem; overflow-wrap: anywhere; }
@media (max-width: 52rem) {
  thead { display: none; } table { font-size: 1rem; }
  tbody tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.8rem, 1fr)); gap: .5rem .75rem;
    padding: .9rem 0; }
  tbody tr:first-child { border: 0; padding-top: 0; }
  td, td:first-child { padding: 0; text-align: left; }
  td:first-child { grid-column: 1 / -1; font-weight: 600; }
  td[data-label]::before { content: attr(data-label); display: block; color: var(--muted);
    font: .8rem/1.4 var(--sans); }
  .none { display: none; } }
@media (max-width: 40rem) {
  body { padding-top: 1.75rem; }
  h2 { margin-top: 2.5rem; }
  .wide { display: none; } .narrow { display: block; }
  .tiles { grid-template-columns: 1fr 1fr; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ report.name }}</title>
<style>{{ style }}</style>
</head>
<body>
<header>
<h1>{{ report.name }}</h1>
<p class="lead">{{ sentence }}</p>
<p class="note">{{ [report.task, report.started] | select | join(" · ") }}
{% if report.seconds %} · {{ report.seconds | show("s") }}{% endif %}
{% if report.warnings %} · <a href="#warnings">{{ report.warnings | length }}
warning{{ "s" if report.warnings | length > 1 }}</a>{% endif %}</p>
</header>

{% if columns %}
<h2>Models</h2>
<div class="scroll"><table>
<thead><tr><th></th>{% for column in columns %}<th>{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for model in models %}
<tr{% if model.name == "student" %} class="student"{% endif %}>
<td>{{ model.name }}<small>{{ model.note }}</small></td>
{% for label, text in model.cells %}
<td data-label="{{ label }}"{% if text == "–" %} class="none"{% endif %}>{{ text }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
<p class="note">Size is that of the file to deploy;
latency is the median of one call{{ ", the student's with " ~ measured_on if measured_on }}.</p>
{% endif %}

{% if tiles %}
<h2>What was saved</h2>
<dl class="tiles">
{% for number, what, change in tiles %}
<div><dt><b>{{ number }}</b>{{ what }}</dt><dd>{{ change }}</dd></div>
{% endfor %}
</dl>
{% endif %}

{% if curves %}
<h2>How it went</h2>
<figure>
<figcaption>
{% if logged %}
Metrics on validation data, then each loss before its weight, grey while that weight is 0;
the number at the right is the last one.
{% endif %}
{% if report.timeline %}
The bars say what was at work when.
{% endif %}
</figcaption>
{{ curves }}
</figure>
{% endif %}

{% if layers or skipped %}
<h2>Layer by layer</h2>
{% endif %}
{% if layers %}
<figure>
<figcaption>Solid: cut out for good, which makes a model smaller and faster.
Faint: zeros that still take their place.</figcaption>
{% if layers > 40 %}
<details><summary>{{ layers }} layers</summary>{{ bars }}</details>
{% else %}
{{ bars }}
{% endif %}
</figure>
{% endif %}
{% if skipped %}
<details><summary>{{ skipped | length }} left as they were</summary>
<pre>{{ skipped | join("\n") }}</pre></details>
{% endif %}

{% if agreement %}
<h2>Agreement</h2>
<figure>
<figcaption>Teacher and student give the same answer to {{ agreed }} of {{ answers }} examples
({{ (agreed / answers if answers else None) | show("%") }}).</figcaption>
{{ agreement }}
</figure>
{% endif %}

{% if examples %}
<h2>Where they differ most</h2>
<ol class="examples">
{% for example in examples %}
<li><blockquote>{{ example.text | truncate(400, false, "…") }}</blockquote>
<dl class="said">
{% for who in ("label", "teacher", "student") if example[who] is defined and example[who] is not none %}
{% set said, probability = example[who], example[who ~ "_probability"] %}
{% set wrong = who == "student" and said is string and example.label and said != example.label %}
<div><dt>{{ who }}</dt><dd{% if wrong %} class="wrong"{% endif %}>
{{- said | show if said is float else said }}
{%- if probability is number %} {{ probability | show("%") }}{% endif %}</dd></div>
{% endfor %}
</dl></li>
{% endfor %}
</ol>
{% endif %}

{% if report.warnings %}
<h2 id="warnings">Warnings</h2>
<ul class="warnings">{% for warning in report.warnings %}<li>{{ warning }}</li>{% endfor %}</ul>
{% endif %}

{% if report.command or report.seed is number or report.hardware or report.versions %}
<h2>How it was made</h2>
{% if report.command %}
<pre>{% for word in report.command.split() %}<span>{{ word }}</span> {% endfor %}</pre>
{% endif %}
<dl class="facts">
{% if report.seed is number %}<dt>seed</dt><dd>{{ report.seed }}</dd>{% endif %}
{% for name, value in (report.hardware or {}).items() if value %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
{% for name, value in (report.versions or {}).items() %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
{% for name, value in (report.parity or {}).items() %}
<dt>{{ name }}</dt><dd>moved a logit by at most {{ value | show }}</dd>
{% endfor %}
</dl>
{% endif %}
</body>
</html>
"""
