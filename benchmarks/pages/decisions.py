"""The list of decisions on their page: mkdocs calls ``on_page_markdown`` (``hooks`` in mkdocs.yml)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
PAGE = "decisions/index.md"
MARK = "<!-- decisions -->"
"""What the page has in the place of the list."""


def decisions() -> str:
    """Return a link to each decision, by number."""
    files = sorted(FOLDER.rglob("0*.md"), key=lambda file: file.name)
    return "\n".join(
        f"- [{file.read_text().partition(chr(10))[0].removeprefix('# ')}]({file.relative_to(FOLDER)})" for file in files
    )


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the list into its page; mkdocs calls this for every page."""
    return markdown.replace(MARK, decisions()) if page.file.src_uri == PAGE else markdown
