"""JSON: a list of objects, or an object a line; every row knows its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from distill.data.table import FileTable, Problem, table_of
from distill.data.text import bad_byte, is_blank, read_lines
from distill.tasks.columns import shortened
from distill.tasks.facts import FileFacts

_BLANK = re.compile(r"\s*")


def read_json(path: Path, split: str) -> FileTable:
    """The rows of a JSON file: the objects of one list, or one object on each line.

    Raises:
        ValueError: if it holds no rows.
        OSError: if it cannot be read.
    """
    lines, dialect = read_lines(path)
    start = next((line.lstrip()[:1] for line in lines if not is_blank(line)), "")
    if not start:
        raise ValueError("it is empty")
    listed = start == "["
    rows, numbers, problems = [], [], []
    for line, row in _listed("\n".join(lines)) if listed else _one_a_line(lines):
        if isinstance(row, Problem):
            problems.append(row)
        elif not isinstance(row, dict) or not row:
            problems.append(Problem(line, f"{shortened(row)} is not an object {{column: value}}"))
        else:
            rows.append(row)
            numbers.append(line)
    if not listed and not rows and start == "{" and isinstance(_whole(lines), dict):
        raise ValueError("it holds one object; rows are a list of objects, or one object on each line")
    if not rows and not problems:
        raise ValueError("it has no rows")
    names = list(dict.fromkeys(name for row in rows for name in row))
    table, odd = table_of(names, [[row.get(name) for row in rows] for name in names], numbers)
    facts = FileFacts(str(path), split, path.suffix[1:], [*(["one list"] if listed else []), *dialect])
    facts.rows_read = len(rows) + len(problems)
    return FileTable(table, facts, numbers, problems + odd)


def _decoder() -> json.JSONDecoder:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
        return row

    # Python writes a gap among numbers as NaN, which is no JSON and would make real numbers of whole ones.
    return json.JSONDecoder(object_pairs_hook=once, parse_constant=lambda name: None if name == "NaN" else float(name))


def _one_a_line(lines: list[str]) -> Iterator[tuple[int, object]]:
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
            yield number, Problem(number, _why(error))


def _listed(text: str) -> Iterator[tuple[int, object]]:
    """The elements of the list; the first mistake ends it, for nothing behind it has a sure place."""
    decoder, at, line = _decoder(), text.index("[") + 1, text[: text.index("[")].count("\n") + 1

    def skip(start: int) -> int:
        return _BLANK.match(text, start).end()

    first = True
    while True:
        begin = skip(at)
        line, at = line + text.count("\n", at, begin), begin
        if text[at : at + 1] == "]" and first:
            at += 1
            break
        try:
            row, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            number = getattr(error, "lineno", line)
            yield number, Problem(number, _why(error))
            return
        bad = bad_byte(text[at:end])
        yield line, Problem(line, bad) if bad else row
        line, at, first = line + text.count("\n", at, end), end, False
        begin = skip(at)
        line, at = line + text.count("\n", at, begin), begin
        mark, at = text[at : at + 1], at + 1
        if mark == "]":
            break
        if mark != ",":
            what = f"{mark!r} stands where ',' or ']' is expected" if mark else "the list is not closed by ']'"
            yield line, Problem(line, f"not valid JSON: {what}")
            return
    if text[at:].strip():
        line += text[at : skip(at)].count("\n")
        yield line, Problem(line, "something stands behind the end of the list")


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "not valid JSON: it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg} (column {error.colno})"
    return str(error)


def _whole(lines: list[str]) -> object:
    try:
        return json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return None
