"""CSV and TSV: the separator is detected, quoting is strict, and every row knows its line."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from distill.data.table import FileTable, Problem, build_table
from distill.data.text import bad_byte, is_blank, read_lines
from distill.tasks.columns import shorten
from distill.tasks.facts import FileFacts

SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
_INTEGER = re.compile(r"\s*[+-]?\d{1,18}\s*").fullmatch
_REAL = re.compile(r"\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|Infinity)\s*").fullmatch
_BOOLEAN = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_QUOTED = re.compile('"([^"]|"")*"').fullmatch
_SAMPLE = 200
"""Number of rows by which separators are compared."""


def read_delimited(path: Path, split: str) -> FileTable:
    """Read a CSV or TSV file whose first line names the columns.

    A ``.tsv`` has no quoting: tabs separate, and a quote mark is part of a text. A ``.csv`` is separated by comma,
    semicolon, tab or bar, whichever gives its lines the same number of cells, and is quoted as in RFC 4180. A column
    has integers, floats or booleans if all of its values are such, else strings.

    Raises:
        ValueError: if the file is no such table, or has no rows at all.
        OSError: if it cannot be read.
    """
    csv.field_size_limit(2**31 - 1)  # a text may be longer than the 131,072 characters of Python's own limit
    lines, dialect = read_lines(path)
    tabs = path.suffix == ".tsv"
    header = next((number for number, line in enumerate(lines, 1) if not is_blank(line)), 0)
    if not header:
        raise ValueError("it is empty")
    separator = "\t" if tabs else _separator(lines[header - 1 :])
    rows = _plain_rows(lines) if tabs else _quoted_rows(lines, separator)
    columns, numbers, problems = [], [], []
    names, blank_lines, multiline_rows = None, 0, 0
    for line, last_line, row in rows:
        if row is None:
            blank_lines += 1
        elif isinstance(row, str):
            problems.append(Problem(line, row))
            names = names or _raise_bad_header(line, row)
        elif names is None:
            names = _column_names(row, line, separator, tabs)
            columns = [[] for _ in names]
        elif len(row) != len(names):
            problems.append(Problem(line, _ragged(row, names, separator, tabs)))
        elif bad := next((bad for cell in row if (bad := bad_byte(cell))), ""):
            problems.append(Problem(line, bad))
        else:
            multiline_rows += last_line > line
            numbers.append(line)
            for column, cell in zip(columns, row, strict=True):
                column.append(cell)
    if tabs:
        problems += _quoting_problems(names, columns, numbers)
    if not numbers and not problems:
        raise ValueError(f"it has no rows below the names of the columns in line {header}")
    dialect = [*([] if tabs else [f"separated by {SEPARATORS[separator]}"]), *dialect]
    dialect += [f"{blank_lines:,} blank lines skipped"] * bool(blank_lines)
    dialect += [f"{multiline_rows:,} rows of several lines"] * bool(multiline_rows)
    named = [(name, typed(column)) for name, column in zip(names, columns, strict=True) if name]
    table, type_problems = build_table([name for name, _ in named], [column for _, column in named], numbers)
    no_header = _looks_like_a_row(named)
    ignored = [f"column {i}, which has no name" for i, name in enumerate(names, 1) if not name]
    facts = FileFacts(str(path), split, path.suffix[1:], dialect, columns_ignored=ignored)
    facts.rows_read = len(numbers) + len(problems)
    return FileTable(table, facts, numbers, problems + type_problems, no_header)


def typed(values: list[str]) -> list:
    """Return the values of a column, converted if all are integers, all floats or all booleans."""
    for match, convert in ((_INTEGER, int), (_REAL, float), (_BOOLEAN.get, _BOOLEAN.get)):
        if values and all(match(value) is not None for value in values):
            return [convert(value) for value in values]
    return values


def _separator(lines: list[str]) -> str:
    """Return the separator of the first line; of several, the one that gives most rows the same number of cells."""
    widths = {separator: len(_cells(lines[0], separator)) for separator in SEPARATORS if separator in lines[0]}
    widths = {separator: width for separator, width in widths.items() if width > 1}
    if len(widths) <= 1:
        return next(iter(widths), ",")
    rows = [line for line in lines[1 : _SAMPLE + 1] if not is_blank(line)]
    matches = Counter({s: sum(len(_cells(line, s)) == width for line in rows) for s, width in widths.items()})
    return matches.most_common(1)[0][0]


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line.replace("\r", "")], delimiter=separator), [])


def _plain_rows(lines: list[str]) -> Iterator[tuple[int, int, list[str] | str | None]]:
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        if is_blank(line):
            yield number, number, None
        elif "\r" in line:
            yield number, number, "a carriage return within the line"
        else:
            yield number, number, line.split("\t")


def _quoted_rows(lines: list[str], separator: str) -> Iterator[tuple[int, int, list[str] | str | None]]:
    """Yield (first line, last line, cells); an error message in place of the cells, or None for a blank line."""
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield first, reader.line_num, _quote_error(str(error), first, reader.line_num, separator)
            continue
        yield first, reader.line_num, None if first == reader.line_num and is_blank(lines[first - 1]) else row


def _quote_error(error: str, first: int, last: int, separator: str) -> str:
    if "unexpected end" in error:
        extent = f", so it contains all {last - first:,} lines after it" if last > first else ""
        return f"a quoted text that begins here is never closed{extent}"
    if "expected after" in error:
        where = f" (in line {last})" if last > first else ""
        return (
            f"a quoted text goes on after its closing quote{where}; "
            'quote the whole text and double the quotes inside it: " becomes ""'
        )
    if "new-line" in error:
        return "a carriage return within the line"
    return error


def _column_names(row: list[str], line: int, separator: str, tabs: bool) -> list[str]:
    names = [name.strip() for name in row]
    duplicates = [name for name, count in Counter(names).items() if name and count > 1]
    if duplicates:
        raise ValueError(f"line {line}: two columns are named {shorten(duplicates[0])}")
    if not any(names):
        raise ValueError(f"line {line}: no column has a name")
    if tabs and len(names) == 1 and (other := next((s for s in ",;|" if s in names[0]), "")):
        raise ValueError(f"line {line}: there is no tab, but {other!r}; a .tsv is separated by tabs, call it .csv")
    return names


def _looks_like_a_row(columns: list[tuple[str, list]]) -> bool:
    """Return whether the header may be a row: some of its names, not all, are numbers above columns of numbers."""
    under_numbers = [values for name, values in columns if _REAL(name)]
    has_numbers = any(values and type(values[0]) in (int, float) for values in under_numbers)
    return has_numbers and len(under_numbers) < len(columns)


def _raise_bad_header(line: int, message: str) -> list[str]:
    raise ValueError(f"line {line}: {message}")


def _ragged(row: list[str], names: list[str], separator: str, tabs: bool) -> str:
    message = f"{len(row)} columns, but {len(names)} names in the first line"
    if len(row) > len(names):
        advice = "a .tsv has no quoting, so a text cannot contain a tab" if tabs else "quote a text that contains it"
        message += f"; {SEPARATORS[separator]} separates them: {advice}"
    return message


def _quoting_problems(names: list[str], columns: list[list[str]], lines: list[int]) -> list[Problem]:
    """Return the cells of a TSV that were written with quoting: with doubled quotes inside, or all of a column."""
    problems = []
    for name, column in zip(names, columns, strict=True):
        quoted = [bool(cell[:1] == '"' and _QUOTED(cell)) for cell in column]
        all_quoted = len(column) > 1 and all(quoted)
        for line, cell, is_quoted in zip(lines, column, quoted, strict=True):
            if is_quoted and (all_quoted or '""' in cell):
                advice = "a .tsv has no quoting: remove the quotes, or write a .csv"
                problems.append(Problem(line, f"{name!r} is quoted, {shorten(cell)}; {advice}", name))
    return problems
