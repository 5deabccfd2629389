"""JSON: a list of objects, or one object a line; every row knows its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from distill.data.table import FileTable, Problem, build_table
from distill.data.text import bad_byte, is_blank, read_lines
from distill.tasks.columns import shorten
from distill.tasks.facts import FileFacts

_BLANK = re.compile(r"\s*")


def read_json(path: Path, split: str) -> FileTable:
    """Read a JSON file: the objects of a list, or one object on each line.

    Raises:
        ValueError: if it has no rows.
        OSError: if it cannot be read.
    """
    lines, dialect = read_lines(path)
    start = next((line.lstrip()[:1] for line in lines if not is_blank(line)), "")
    if not start:
        raise ValueError("it is empty")
    is_list = start == "["
    rows, numbers, problems = [], [], []
    for line, row in _list_items("\n".join(lines)) if is_list else _line_objects(lines):
        if isinstance(row, Problem):
            problems.append(row)
        elif not isinstance(row, dict) or not row:
            problems.append(Problem(line, f"{shorten(row)} is not an object {{column: value}}"))
        else:
            rows.append(row)
            numbers.append(line)
    if not is_list and not rows and start == "{" and isinstance(_parse_all(lines), dict):
        raise ValueError("it holds one object; rows are a list of objects, or one object on each line")
    if not rows and not problems:
        raise ValueError("it has no rows")
    names = list(dict.fromkeys(name for row in rows for name in row))
    table, type_problems = build_table(names, [[row.get(name) for row in rows] for name in names], numbers)
    facts = FileFacts(str(path), split, path.suffix[1:], [*(["one list"] if is_list else []), *dialect])
    facts.rows_read = len(rows) + len(problems)
    return FileTable(table, facts, numbers, problems + type_problems)


def _decoder() -> json.JSONDecoder:
    def make_row(pairs: list[tuple[str, object]]) -> dict[str, object]:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
        return row

    # Python writes a missing number as NaN, which is not JSON and would turn integers into floats.
    return json.JSONDecoder(
        object_pairs_hook=make_row, parse_constant=lambda name: None if name == "NaN" else float(name)
    )


def _line_objects(lines: list[str]) -> Iterator[tuple[int, object]]:
    decoder = _decoder()
    for number, line in enumerate(lines, 1):
        if is_blank(line):
            continue
        if bad := bad_byte(line):
            yield number, Problem(number, bad)
            continue
        try:
            yield number, decoder.decode(line)
        except (ValueError, RecursionError) as error:
            yield number, Problem(number, _syntax_error(error))


def _list_items(text: str) -> Iterator[tuple[int, object]]:
    """Yield (line, element) of a list; the first syntax error ends it, as later positions are unknown."""
    decoder, at, line = _decoder(), text.index("[") + 1, text[: text.index("[")].count("\n") + 1

    def skip_blanks(start: int) -> int:
        return _BLANK.match(text, start).end()

    is_first = True
    while True:
        begin = skip_blanks(at)
        line, at = line + text.count("\n", at, begin), begin
        if text[at : at + 1] == "]" and is_first:
            at += 1
            break
        try:
            row, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            number = getattr(error, "lineno", line)
            yield number, Problem(number, _syntax_error(error))
            return
        bad = bad_byte(text[at:end])
        yield line, Problem(line, bad) if bad else row
        line, at, is_first = line + text.count("\n", at, end), end, False
        begin = skip_blanks(at)
        line, at = line + text.count("\n", at, begin), begin
        delimiter, at = text[at : at + 1], at + 1
        if delimiter == "]":
            break
        if delimiter != ",":
            message = f"expected ',' or ']', not {delimiter!r}" if delimiter else "the list is not closed by ']'"
            yield line, Problem(line, f"not valid JSON: {message}")
            return
    if text[at:].strip():
        line += text[at : skip_blanks(at)].count("\n")
        yield line, Problem(line, "there is text after the end of the list")


def _syntax_error(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "not valid JSON: it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg} (column {error.colno})"
    return str(error)


def _parse_all(lines: list[str]) -> object:
    try:
        return json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return None
