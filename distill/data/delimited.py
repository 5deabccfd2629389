"""CSV and TSV: the separator is found out, quoting is strict, and every row knows its line."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from distill.data.table import FileTable, Problem, table_of
from distill.data.text import bad_byte, is_blank, read_lines
from distill.tasks.columns import shortened
from distill.tasks.facts import FileFacts

SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
_WHOLE = re.compile(r"\s*[+-]?\d{1,18}\s*").fullmatch
_REAL = re.compile(r"\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|Infinity)\s*").fullmatch
_BOOLEAN = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_QUOTED = re.compile('"([^"]|"")*"').fullmatch
_SAMPLE = 200
"""Rows by which separators are compared."""


def read_delimited(path: Path, split: str) -> FileTable:
    """The rows of a CSV or TSV file whose first line names the columns.

    A ``.tsv`` has no quoting: tabs separate, and every quote mark is part of a text. A ``.csv`` is separated by comma,
    semicolon, tab or bar, whichever its lines agree on, and quotes as RFC 4180 says. A column of which all values are
    whole numbers, real numbers or truth values holds such; in every other, values are the texts that stand there.

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
    names, blank, several = None, 0, 0
    for line, last, row in rows:
        if row is None:
            blank += 1
        elif isinstance(row, str):
            problems.append(Problem(line, row))
            names = names or _failed_header(line, row)
        elif names is None:
            names = _names(row, line, separator, tabs)
            columns = [[] for _ in names]
        elif len(row) != len(names):
            problems.append(Problem(line, _ragged(row, names, separator, tabs)))
        elif bad := next((bad for cell in row if (bad := bad_byte(cell))), ""):
            problems.append(Problem(line, bad))
        else:
            several += last > line
            numbers.append(line)
            for column, cell in zip(columns, row, strict=True):
                column.append(cell)
    if tabs:
        problems += _quoting(names, columns, numbers)
    if not numbers and not problems:
        raise ValueError(f"it has no rows below the names of the columns in line {header}")
    dialect = [*([] if tabs else [f"separated by {SEPARATORS[separator]}"]), *dialect]
    dialect += [f"{blank:,} blank lines skipped"] * bool(blank)
    dialect += [f"{several:,} rows of several lines"] * bool(several)
    named = [(name, typed(column)) for name, column in zip(names, columns, strict=True) if name]
    table, odd = table_of([name for name, _ in named], [column for _, column in named], numbers)
    no_header = _looks_like_a_row(named)
    ignored = [f"column {i}, which has no name" for i, name in enumerate(names, 1) if not name]
    facts = FileFacts(str(path), split, path.suffix[1:], dialect, columns_ignored=ignored)
    facts.rows_read = len(numbers) + len(problems)
    return FileTable(table, facts, numbers, problems + odd, no_header)


def typed(values: list[str]) -> list:
    """The values of a column: all numbers, all truth values, or all texts."""
    for fits, make in ((_WHOLE, int), (_REAL, float), (_BOOLEAN.get, None)):
        if values and all(fits(value) is not None for value in values):
            return [make(value) if make else _BOOLEAN[value] for value in values]
    return values


def _separator(lines: list[str]) -> str:
    """The separator that the first line has, and of several the one that gives most rows as many cells."""
    there = {separator: len(_cells(lines[0], separator)) for separator in SEPARATORS if separator in lines[0]}
    there = {separator: width for separator, width in there.items() if width > 1}
    if len(there) <= 1:
        return next(iter(there), ",")
    rows = [line for line in lines[1 : _SAMPLE + 1] if not is_blank(line)]
    agree = Counter({s: sum(len(_cells(line, s)) == width for line in rows) for s, width in there.items()})
    return agree.most_common(1)[0][0]


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
    """(first line, last line, cells), or what is wrong in place of the cells, or nothing for a blank line."""
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
        more = f", and all {last - first:,} lines after it are in its text" if last > first else ""
        return f"a quote that begins a text here is never closed{more}"
    if "expected after" in error:
        where = f" (in line {last})" if last > first else ""
        return (
            f"a text that begins with a quote mark goes on behind the quote that closes it{where}; "
            'put the whole text in quotes and double those within it: " becomes ""'
        )
    if "new-line" in error:
        return "a carriage return within the line"
    return error


def _names(row: list[str], line: int, separator: str, tabs: bool) -> list[str]:
    names = [name.strip() for name in row]
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise ValueError(f"line {line}: two columns are named {shortened(twice[0])}")
    if not any(names):
        raise ValueError(f"line {line}: no column has a name")
    if tabs and len(names) == 1 and (other := next((s for s in ",;|" if s in names[0]), "")):
        raise ValueError(f"line {line}: there is no tab, but {other!r}; a .tsv is separated by tabs, call it .csv")
    return names


def _looks_like_a_row(columns: list[tuple[str, list]]) -> bool:
    """Whether the first line may be a row: a number stands above a column of numbers, beside names that are none."""
    numbers = [values for name, values in columns if _REAL(name)]
    above = any(values and type(values[0]) in (int, float) for values in numbers)
    return above and len(numbers) < len(columns)


def _failed_header(line: int, why: str) -> list[str]:
    raise ValueError(f"line {line}: {why}")


def _ragged(row: list[str], names: list[str], separator: str, tabs: bool) -> str:
    why = f"{len(row)} columns, and the names in the first line are {len(names)}"
    if len(row) > len(names):
        how = "a .tsv has no quoting, so no text may have a tab" if tabs else "put a text with it in quotes"
        why += f"; {SEPARATORS[separator]} separates them: {how}"
    return why


def _quoting(names: list[str], columns: list[list[str]], lines: list[int]) -> list[Problem]:
    """The cells of a TSV that were written with quoting: in quotes, and those within doubled; or all of a column."""
    problems = []
    for name, column in zip(names, columns, strict=True):
        quoted = [bool(cell[:1] == '"' and _QUOTED(cell)) for cell in column]
        everywhere = len(column) > 1 and all(quoted)
        for line, cell, is_quoted in zip(lines, column, quoted, strict=True):
            if is_quoted and (everywhere or '""' in cell):
                why = f"{name!r} is in quotes, {shortened(cell)}; a .tsv has no quoting: write texts plain, or a .csv"
                problems.append(Problem(line, why, name))
    return problems
