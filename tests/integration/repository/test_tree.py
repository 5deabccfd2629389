"""The tree of tests: a unit test lies where its source does, no name stands twice, what pages name exists."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = sorted((ROOT / "tests").glob("**/test_*.py"))
UNIT = ROOT / "tests" / "unit"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md"))]
NAMED = re.compile(r"(tests/[\w/]+)(\.py)?((?:`,? *`)?::\w+(?:`, `::\w+)*)?")


@pytest.mark.parametrize(
    "file", [file for file in TESTS if UNIT in file.parents], ids=lambda file: str(file.relative_to(UNIT))
)
def test_a_unit_test_has_a_source(file):
    """A module of that name, or a module with the name of the folder, whose subjects the files of the folder are."""
    place = ROOT / file.relative_to(UNIT).parent
    assert (place / file.name.removeprefix("test_")).exists() or place.with_suffix(".py").exists()


def test_a_test_is_a_unit_test_or_an_integration_test():
    places = {UNIT, ROOT / "tests" / "integration"}
    assert [str(file) for file in TESTS if not places & set(file.parents)] == []


def test_no_two_files_have_one_name():
    assert [name for name, count in Counter(file.name for file in TESTS).items() if count > 1] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page):
    for path, suffix, tests in NAMED.findall(page.read_text()):
        file = ROOT / f"{path}{suffix}"
        assert file.exists(), f"{page.name}: {path}{suffix}"
        names = (
            {node.name for node in ast.walk(ast.parse(file.read_text())) if hasattr(node, "name")} if tests else set()
        )
        assert set(re.findall(r"\w+", tests)) <= names, f"{page.name}: {path}{suffix}{tests}"


@pytest.mark.parametrize(
    "folder",
    [ROOT / "docs", *(path for path in (ROOT / "docs").rglob("*") if path.is_dir() and "results" not in path.parts)],
    ids=lambda folder: str(folder.relative_to(ROOT)),
)
def test_a_folder_of_docs_has_at_most_twelve_entries(folder):
    assert len(list(folder.iterdir())) <= 12
