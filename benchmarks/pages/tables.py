"""Tables in Markdown, and the part of a page that holds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

PART = re.compile(r"(?<=<!-- tables -->\n).*?(?=<!-- end of tables -->)", re.S)
"""What is written by a command, between two comments."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write(page: Path, text: str) -> None:
    """Put the text into its part of a page."""
    page.write_text(PART.sub(lambda _: f"\n{text}\n", page.read_text()))


def written(page: Path) -> str:
    """Return the text in its part of a page."""
    return PART.search(page.read_text())[0].strip("\n") + "\n"
