"""The tables of docs/results.md are those of the reports, and a cell says what its report says."""

import json
import re

import pytest

from benchmarks.pages.results import DOCS, PAGE, row, significant, text
from benchmarks.pages.tables import written


def test_the_page_has_the_tables_of_the_reports():
    assert written(PAGE) == text(), "run python -m benchmarks.pages.results"


def test_every_page_of_results_is_linked():
    links = set(re.findall(r"\]\((results/[\w-]+\.md)\)", PAGE.read_text()))
    assert links == {str(page.relative_to(DOCS)) for page in (DOCS / "results").glob("*.md")}


def test_a_row_has_what_its_report_says():
    file = DOCS / "results" / "sst2" / "minilm-s1.json"
    link, teacher, student, kept, size, first, _, runtime = row(file, json.loads(file.read_text()))
    assert link == "[sst2/minilm-s1](results/sst2/minilm-s1.json)"
    assert (teacher, student, kept) == ("0.8968", "0.8796", "98.1 %")
    assert (size, first, runtime) == ("45.4 → 16.2", "15.9 → 2.36", "onnxruntime int8")


def test_a_perplexity_has_no_share_that_is_kept():
    file = DOCS / "results" / "stories-student.json"
    assert row(file, json.loads(file.read_text()))[1:4] == ["5.99", "12.63", ""]


@pytest.mark.parametrize(
    "value, digits", [(90.86, "90.9"), (1307.7, "1308"), (0.6968, "0.697"), (0, "0"), (2.358, "2.36")]
)
def test_three_digits_count(value, digits):
    assert significant(value) == digits
