"""The table of docs/guide/choose.md has the figures of the reports, and its recipes exist."""

from pathlib import Path

import pytest

from benchmarks.pages.choose import NEEDS, PAGE, row, text
from benchmarks.pages.tables import written

ROOT = Path(__file__).parents[4]


def test_the_page_has_the_table_of_the_reports():
    assert written(PAGE) == text(), "run python -m benchmarks.pages.choose"


def test_a_row_has_what_its_report_says():
    assert row("fast", "recipe", "sst2/minilm-s1")[2:7] == [
        "98.1 %",
        "45.4 → 16.2",
        "15.9 → 2.36",
        "223 → 57.3",
        "15",
    ]


@pytest.mark.parametrize("recipe", [recipe for _, recipe, _ in NEEDS if ".yaml" in recipe])
def test_a_recipe_that_is_a_config_exists(recipe):
    files = [file for room in ("configs", "benchmarks/configs", "docs/results") for file in (ROOT / room).rglob(recipe)]
    assert len(files) == 1


def test_a_recipe_that_is_no_config_is_told_on_the_page():
    page = PAGE.read_text()
    assert all(f"## {recipe[0].upper()}{recipe[1:]}" in page for _, recipe, _ in NEEDS if ".yaml" not in recipe)
