"""The messages of docs/guide/troubleshooting.md are those of the code."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MESSAGES = re.findall(r"^- `([^`]+)`:$", (ROOT / "docs" / "guide" / "troubleshooting.md").read_text(), re.M)


def text_of(node: ast.AST) -> str:
    """A string of the code, with … in the place of what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@cache
def strings() -> str:
    """All strings of the code, a line each."""
    rooms = ("distill", "losses", "prune_schedules", "quant_aware", "students")
    files = [file for room in rooms for file in sorted((ROOT / room).rglob("*.py"))]
    return "\n".join(text_of(node) for file in files for node in ast.walk(ast.parse(file.read_text())))


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_of_the_code(message):
    assert message in strings()


def test_there_are_messages():
    assert len(MESSAGES) > 30
