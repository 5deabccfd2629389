"""The measured effects on the pages of techniques are those of the reports."""

import pytest

from benchmarks.pages.measured import EFFECTS, row, text
from benchmarks.pages.results import DOCS
from benchmarks.pages.tables import written


@pytest.mark.parametrize("page", EFFECTS)
def test_a_page_has_the_table_of_its_reports(page):
    assert written(DOCS / "techniques" / page) == text(page), "run python -m benchmarks.pages.measured"


def test_a_row_has_what_its_report_says():
    assert row("labels", "stsb-labels")[1:5] == ["0.8646", "0.5464", "90.9 → 62.5", "27.9 → 10.6"]
