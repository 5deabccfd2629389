"""The rows of a file with the places where they stand in it, and the places that cannot be used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from datasets.table import InMemoryTable

from distill.tasks.columns import shortened, type_of
from distill.tasks.facts import FileFacts


@dataclass
class Problem:
    """Something in a file that cannot be used.

    Args:
        line: of the file, or its row where it has no lines; counted from 1.
        message: what is wrong there.
        column: the one column that it is about; if it is not used, this is no problem.
    """

    line: int
    message: str
    column: str | None = None


@dataclass
class FileTable:
    """What was read of one file.

    Args:
        rows: those that could be read.
        facts: of the file.
        lines: the line of the file on which each row begins; none where the file has no lines.
        problems: rows that could not be read.
        no_header: whether the first line, which names the columns, looks like a row.
    """

    rows: Dataset
    facts: FileFacts
    lines: list[int] | None = None
    problems: list[Problem] = field(default_factory=list)
    no_header: bool = False

    @property
    def unit(self) -> str:
        """What the places of this file are."""
        return "row" if self.lines is None else "line"


@dataclass
class Split:
    """The rows of one split, of one file or of several that follow each other; ``facts`` are of them together."""

    files: list[FileTable]

    def __post_init__(self):
        tables = [file.rows for file in self.files]
        self.rows = tables[0] if len(tables) == 1 else concatenate_datasets(tables)
        self.facts = self.files[0].facts
        if len(self.files) > 1:
            path = f"{self.facts.path} to {Path(self.files[-1].facts.path).name}"
            self.facts = replace(self.facts, path=path, rows_read=sum(file.facts.rows_read for file in self.files))

    def place(self, row: int) -> tuple[FileTable, int]:
        """The file of a row (counted from 1 over all files), and its line or row there."""
        for file in self.files:
            if row <= len(file.rows):
                return file, row if file.lines is None else file.lines[row - 1]
            row -= len(file.rows)
        raise IndexError(row)


def table_of(names: list[str], columns: list[list], lines: list[int]) -> tuple[Dataset, list[Problem]]:
    """The table of columns of Python values, and the values that are not of the type of their column.

    Such a value is left out of the table, and its row stays.

    Args:
        names: of the columns.
        columns: as many, of equal length.
        lines: of the rows.
    """
    arrays, problems = [], []
    for name, values in zip(names, columns, strict=True):
        values, odd = _of_one_type(name, values, lines)
        try:
            array = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeError):
            values, more = _fitting(name, values, lines)
            array, odd = pa.array(values), odd + more
        arrays.append(array)
        problems += odd
    return Dataset(InMemoryTable(pa.table(arrays, names=names))), problems


def _of_one_type(name: str, values: list, lines: list[int]) -> tuple[list, list[Problem]]:
    """The values of the type that most have, whole numbers becoming real ones beside such."""
    types = Counter(type(value) for value in values if value is not None)
    if types.keys() == {int, float}:
        return [None if value is None else float(value) for value in values], []
    if len(types) <= 1:
        return values, []
    usual = types.most_common(1)[0][0]
    fits = {int, float} if usual in (int, float) else {usual}
    example = next(value for value in values if type(value) is usual)
    what = "a number" if usual in (int, float) else type_of(example)
    kept, problems = [], []
    for line, value in zip(lines, values, strict=True):
        if value is None or type(value) in fits:
            kept.append(float(value) if float in types and float in fits and value is not None else value)
        else:
            why = f"{name!r} is {shortened(value)}, {type_of(value)}, where most rows have {what}"
            problems.append(Problem(line, why, name))
            kept.append(None)
    return kept, problems


def _fitting(name: str, values: list, lines: list[int]) -> tuple[list, list[Problem]]:
    """The values that a column can hold together with the first of them that it can hold."""
    kept, problems, first = [], [], None
    for line, value in zip(lines, values, strict=True):
        try:
            pa.array([first, value])
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            why = f"{name!r} is {shortened(value)}, which cannot stand in a column with the others ({_first(error)})"
            problems.append(Problem(line, why, name))
            kept.append(None)
        else:
            first = value if first is None else first
            kept.append(value)
    return kept, problems


def _first(error: Exception) -> str:
    return shortened(" ".join(str(error).split()), 80, plain=True)
