"""Soft labels: a teacher's outputs for each row, as columns of the data or by a judge."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from distill.config.errors import suggest
from distill.tasks.classes import Classes
from distill.tasks.columns import list_names, shorten

if TYPE_CHECKING:
    from datasets import Dataset

LOG_ZERO = -1e4
"""The logarithm of a probability of 0. Divided by a temperature up to 90 its softmax is exactly 0 in float32, and 0
times its logarithm is 0 and not NaN."""
MAX_ERROR = 1e-3
"""The largest difference of a sum of probabilities from 1."""
KEY = "teacher_logits"
"""The key of the logits in rows and batches."""


class SoftLabelsError(ValueError):
    """The teacher's outputs do not fit the task, or cannot be had: an error of ``teacher``, not of ``task``."""


class RowJudge(Protocol):
    """What judges the rows of a task before they are encoded: a teacher that answers by the words of the classes."""

    labels: dict[str, str]
    """The word of each label."""

    def outputs(self, classes: Classes) -> dict[str, str]:
        """Return {word: class}."""

    def judge(self, rows: list[dict[str, str]], classes: Classes) -> tuple[list[list[float]], list[str]]:
        """Return the logits of rows, {column: text}, in the order of the classes, and notes on how they came about.

        Raises:
            ValueError: if the judge does not suit the classes or the columns, or cannot be asked.
        """


@dataclass(frozen=True)
class SoftLabels:
    """The columns that hold a teacher's outputs.

    Args:
        columns: their names in the order of the labels' numbers, or {label: name}.
        are_probabilities: whether cells are probabilities instead of logits.
        temperature: T, by which the teacher divided its logits z; cells are ``softmax(z / T)``, or ``z / T``.
    """

    columns: list[str] | dict[str, str]
    are_probabilities: bool = True
    temperature: float = 1.0

    @property
    def names(self) -> list[str]:
        """The names of the columns, as the config orders them."""
        return list(self.columns.values()) if isinstance(self.columns, dict) else self.columns

    def missing(self, table: Dataset) -> list[str]:
        """Return the columns that a table lacks."""
        return [name for name in self.names if name not in table.column_names]

    def bad_rows(self, table: Dataset, classes: Classes, must_have: str = "") -> Iterator[tuple[int, str]]:
        """Yield (row counted from 1, message) for each row with unusable cells; nothing if the table has no columns.

        Args:
            table: the rows of a file.
            classes: of the task.
            must_have: why no row may lack all cells, as the end of a message; empty if one may.
        """
        if self.missing(table):
            return
        is_complete = classes.explicit or len(self.names) == len(classes.names)  # else the count is refused by itself
        columns = table.select_columns(self.names).with_format(None)
        for row, cells in enumerate(zip(*(columns[name] for name in self.names), strict=True), 1):
            yield from ((row, message) for message in self._errors(list(cells), is_complete, must_have))

    def _errors(self, cells: list[object], is_complete: bool, must_have: str) -> Iterator[str]:
        """Yield what is wrong with the cells of a row."""
        named = list(zip(self.names, map(number, cells), strict=True))
        if math.inf in dict(named).values():
            cells_of = dict(zip(self.names, cells, strict=True))
            yield from (f"{name!r} is {shorten(cells_of[name])}, not a number" for name, x in named if x == math.inf)
            return
        empty = [name for name, value in named if math.isnan(value)]
        if len(empty) == len(named):
            if must_have:
                yield f"{list_names(empty)} {'is' if len(empty) == 1 else 'are'} empty, {must_have}"
        elif empty:
            yield f"{empty[0]!r} is empty, and not all columns of the teacher are; a row has all of them or none"
        elif self.are_probabilities:
            negative = [f"{name!r} is {value:g}; a probability is not negative" for name, value in named if value < 0]
            total = sum(value for _, value in named)
            yield from negative
            if not negative and is_complete and abs(total - 1) > MAX_ERROR:
                yield f"the probabilities sum to {total:.4g}, not 1"

    def by_class(self, classes: Classes) -> list[str]:
        """Return the column of each class, in the order of the outputs.

        Raises:
            SoftLabelsError: if there is not one column for each class, or their order is unknown.
        """
        labels = classes.names
        if labels == [""]:
            if isinstance(self.columns, dict) or len(self.columns) != 1:
                raise SoftLabelsError("columns: a regression has one, the teacher's number; write columns: [NAME]")
            return self.columns
        if isinstance(self.columns, dict):
            return self._by_label(self.columns, classes)
        if len(self.columns) != len(labels):
            names = f"{len(self.columns)} ({list_names(self.columns)})"
            raise SoftLabelsError(f"columns: there are {names}, and {len(labels)} classes ({list_names(labels)})")
        numbers = [number for number in classes.numbers if number is not None]
        if len(set(numbers)) == len(labels):
            return [self.columns[sorted(numbers).index(number)] for number in numbers]
        example = ", ".join(f"{label}: COLUMN" for label in labels[:2]) + ", …" * (len(labels) > 2)
        raise SoftLabelsError(f"columns: the labels are names and have no order; write columns: {{{example}}}")

    def _by_label(self, columns: dict[str, str], classes: Classes) -> list[str]:
        """Return the column of each class from {label: name}."""
        found: dict[int, str] = {}
        for label, column in columns.items():
            output = classes.outputs.get(label, classes.names.index(label) if label in classes.names else None)
            if output is None:
                raise SoftLabelsError(
                    f"columns: there is no label {label!r}{suggest(label, classes.names, 'there are')}"
                )
            if output in found:
                raise SoftLabelsError(f"columns: {found[output]!r} and {column!r} are of one class")
            found[output] = column
        if rest := [label for output, label in enumerate(classes.names) if output not in found]:
            raise SoftLabelsError(f"columns: the label {rest[0]!r} has no column")
        return [found[output] for output in range(len(classes.names))]

    def logits(self, rows: dict[str, list[Any]], classes: Classes) -> list[list[float]]:
        """Return the logits of rows in the order of the outputs: ``T log p``, or ``T`` times the cell; NaN if missing.

        The logarithm of 0 is ``LOG_ZERO``.

        Raises:
            SoftLabelsError: as ``by_class`` does.
        """
        columns = [rows[name] for name in self.by_class(classes)]
        return [[self.temperature * self._log(number(cell)) for cell in cells] for cells in zip(*columns, strict=True)]

    def _log(self, value: float) -> float:
        if not self.are_probabilities or math.isnan(value):
            return value
        return max(math.log(value), LOG_ZERO) if value > 0 else LOG_ZERO


def number(cell: object) -> float:
    """Return the number in a cell: NaN if the cell is empty, infinity if it holds none that float32 can."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return math.nan
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return math.inf
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        return math.inf
    return value if math.isnan(value) or abs(value) <= 1e30 else math.inf
