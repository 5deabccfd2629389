"""Numbers of the report as text for people."""

from __future__ import annotations

import math

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


def look_up(entry: dict | None, path: tuple[str, ...]) -> float | None:
    """Return the number under nested keys, None if one of them is missing."""
    for key in path:
        entry = (entry or {}).get(key)
    return entry


def range_text(edges: list[float] | None, unit: str = "") -> str:
    """Return an interval of positive numbers as text, as in "3.02–3.41 ms"; empty if an edge is not known."""
    if not edges or any(edge is None or not math.isfinite(edge) for edge in edges):
        return ""
    low, high = (format_number(edge, unit) for edge in edges)
    suffix = high[len(high.rstrip(" %BkMGTbntms")) :]
    return f"{low.removesuffix(suffix)}–{high}"
