"""Numbers as text: few digits, a unit, an interval."""

import math

import pytest

from distill.reporting.numbers import format_number, range_text, ratio_text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "", "–"), (math.nan, "ms", "–"), (0, "", "0.000"), (0.90711, "", "0.9071"),
        (21.3456, "", "21.35"), (3e-6, "", "3.0e-06"), (0.98142, "%", "98.1 %"), (5.51, "x", "5.5 ×"),
        (29.95, "x", "30 ×"), (512, "B", "512 B"), (14_622_019, "B", "14.6 MB"),
        (999_950_000, "B", "1.000 GB"),
        (109_483_778, "n", "109 M"), (624, "n", "624"), (3.124, "ms", "3.12 ms"), (972.6, "ms", "973 ms"),
        (0.0421, "ms", "0.042 ms"), (1234.5, "ms", "1,234 ms"), (12.34, "s", "12.3 s"), (276, "s", "5 min"),
        (4382.7, "s", "1 h 13 min"),
    ],
)  # fmt: skip
def test_numbers(value, unit, text):
    assert format_number(value, unit) == text


@pytest.mark.parametrize(
    ("edges", "unit", "text"),
    [
        ([0.8876, 0.9255], "", "0.8876–0.9255"),
        ([3.02, 3.41], "ms", "3.02–3.41 ms"),
        ([999, 1_004_000], "n", "999–1.00 M"),
        ([0.5, 0.625], "%", "50.0–62.5 %"),
        (None, "ms", ""),
        ([0.1, None], "", ""),
        ([0.1, math.nan], "", ""),
    ],
)
def test_intervals(edges, unit, text):
    assert range_text(edges, unit) == text


def test_ratios():
    assert ratio_text(5.5, ("smaller", "larger", "as large")) == ("5.5 ×", "smaller")
    assert ratio_text(0.5, ("smaller", "larger", "as large")) == ("2.0 ×", "larger")
