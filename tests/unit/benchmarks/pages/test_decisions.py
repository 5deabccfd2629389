"""Every decision is on the page of decisions, once and with a number of its own."""

import re
from types import SimpleNamespace

from benchmarks.pages.decisions import FOLDER, MARK, on_page_markdown


def listed() -> list[str]:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="decisions/index.md"))
    markdown = on_page_markdown((FOLDER / "index.md").read_text(), page, config=None, files=None)
    assert MARK not in markdown
    return re.findall(r"^- \[(\d{4}) · .+\]\((.+)\)$", markdown, re.M)


def test_every_decision_is_listed():
    assert {path for _, path in listed()} == {str(file.relative_to(FOLDER)) for file in FOLDER.rglob("0*.md")}


def test_no_two_decisions_have_one_number():
    numbers = [number for number, _ in listed()]
    assert numbers == sorted(set(numbers))
