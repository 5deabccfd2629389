"""The rows of a file with their locations, and the problems found in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from datasets.table import InMemoryTable

from distill.tasks.columns import shorten, type_of
from distill.tasks.facts import FileFacts


@dataclass
class Problem:
    """An unusable row or value of a file.

    Args:
        line: of the file, or the row in files without lines; counted from 1.
        message: what is wrong there.
        column: the only column concerned; the problem is ignored if that column is not used.
    """

    line: int
    message: str
    column: str | None = None


@dataclass
class FileTable:
    """The content of a file.

    Args:
        rows: the readable rows.
        facts: of the file.
        lines: the line on which each row begins; None in files without lines.
        problems: rows that could not be read.
        no_header: whether the first line, which should name the columns, looks like a row.
    """

    rows: Dataset
    facts: FileFacts
    lines: list[int] | None = None
    problems: list[Problem] = field(default_factory=list)
    no_header: bool = False

    @property
    def unit(self) -> str:
        """The unit of locations in this file."""
        return "row" if self.lines is None else "line"


@dataclass
class Split:
    """The rows of a split, from one file or several consecutive ones; ``facts`` describe all together."""

    files: list[FileTable]

    def __post_init__(self):
        tables = [file.rows for file in self.files]
        self.rows = tables[0] if len(tables) == 1 else concatenate_datasets(tables)
        self.facts = self.files[0].facts
        if len(self.files) > 1:
            path = f"{self.facts.path} to {Path(self.files[-1].facts.path).name}"
            self.facts = replace(self.facts, path=path, rows_read=sum(file.facts.rows_read for file in self.files))

    def locate(self, row: int) -> tuple[FileTable, int]:
        """Return the file of a row (counted from 1 over all files), and its line or row there."""
        for file in self.files:
            if row <= len(file.rows):
                return file, row if file.lines is None else file.lines[row - 1]
            row -= len(file.rows)
        raise IndexError(row)


def build_table(names: list[str], columns: list[list], lines: list[int]) -> tuple[Dataset, list[Problem]]:
    """Build a table of columns of Python values, and return the values whose type differs from that of their column.

    Such a value becomes None in the table; its row stays.

    Args:
        names: of the columns.
        columns: as many, of equal length.
        lines: of the rows.
    """
    arrays, problems = [], []
    for name, values in zip(names, columns, strict=True):
        values, type_problems = _of_one_type(name, values, lines)
        problems += type_problems
        try:
            array = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeError):
            values, arrow_problems = _arrow_compatible(name, values, lines)
            array = pa.array(values)
            problems += arrow_problems
        arrays.append(array)
    return Dataset(InMemoryTable(pa.table(arrays, names=names))), problems


def _of_one_type(name: str, values: list, lines: list[int]) -> tuple[list, list[Problem]]:
    """Return the values of the most common type, the others as None and problems; mixed numbers become floats."""
    types = Counter(type(value) for value in values if value is not None)
    if types.keys() == {int, float}:
        return [None if value is None else float(value) for value in values], []
    if len(types) <= 1:
        return values, []
    common = types.most_common(1)[0][0]
    accepted = {int, float} if common in (int, float) else {common}
    example = next(value for value in values if type(value) is common)
    noun = "a number" if common in (int, float) else type_of(example)
    uniform, problems = [], []
    for line, value in zip(lines, values, strict=True):
        if value is None or type(value) in accepted:
            uniform.append(float(value) if float in types and float in accepted and value is not None else value)
        else:
            message = f"{name!r} is {shorten(value)}, {type_of(value)}, where most rows have {noun}"
            problems.append(Problem(line, message, name))
            uniform.append(None)
    return uniform, problems


def _arrow_compatible(name: str, values: list, lines: list[int]) -> tuple[list, list[Problem]]:
    """Return the values that Arrow can store in one column with the first, the others as None and problems."""
    storable, problems, first = [], [], None
    for line, value in zip(lines, values, strict=True):
        try:
            pa.array([first, value])
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            reason = f"which cannot be stored in a column with the others ({_first_words(error)})"
            problems.append(Problem(line, f"{name!r} is {shorten(value)}, {reason}", name))
            storable.append(None)
        else:
            first = value if first is None else first
            storable.append(value)
    return storable, problems


def _first_words(error: Exception) -> str:
    return shorten(" ".join(str(error).split()), 80, plain=True)
