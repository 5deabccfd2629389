"""All rows that cannot be used, of all files and of every kind, in one message with their places."""

from __future__ import annotations

import re
from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from distill.data.table import FileTable, Problem, Split
from distill.tasks.columns import is_text, listed, shortened, values_of
from distill.tasks.task import DataTask

MOST = 10
"""Places of a file that are shown."""

_NUMBER = re.compile(r"\s*[+-]?\d+\s*").fullmatch

Found = list[tuple[FileTable, Problem]]
"""Problems, each with its file."""


def set_up(task: DataTask, splits: dict[str, Split], tokenizer: PreTrainedTokenizerBase) -> None:
    """Sets a task up on the training rows, and looks through all rows as they stand in the files.

    Raises:
        ValueError: naming the files and the lines (or rows, where a file has no lines) that cannot be used.
    """
    found = [(file, problem) for split in splits.values() for file in split.files for problem in file.problems]
    if types := [problem for split in splits.values() for problem in placed(split, task.bad_types(split.rows))]:
        refuse(found + types)
    try:
        task.setup(splits["train"].rows, tokenizer)
    except ValueError as error:
        refuse(found)
        if first := next((file for file in splits["train"].files if file.no_header), None):
            names = listed(first.rows.column_names)
            why = f"{error}; the first line of {first.facts.path} must name the columns, and seems to be a row: {names}"
            raise ValueError(why) from error
        raise
    found = [(file, problem) for file, problem in found if problem.column in (None, *task.columns)]
    for split in splits.values():
        for name in task.columns:
            if name not in split.rows.column_names:
                refuse(found)
                there = listed(split.rows.column_names)
                raise ValueError(f"data: {split.facts.path} has no column {name!r}; there are {there}")
    kinds = {split: task.kind(table.rows) for split, table in splits.items()}
    bad = {split: placed(table, task.bad_rows(table.rows)) for split, table in splits.items()}
    # Class 0 of one file must not be class 1 of the other.
    train, validation = kinds["train"], kinds.get("validation", kinds["train"])
    if train != validation:
        refuse(found + bad["train"] + bad["validation"])  # a missing label, too, makes texts of a column of numbers
        refuse([problem for name in task.columns for problem in _no_numbers(name, splits)])
        raise ValueError(f"data: the labels are {train} for training, {validation} for validation")
    known = {(id(file), problem.line) for file, problem in found}
    found += [(file, p) for problems in bad.values() for file, p in problems if (id(file), p.line) not in known]
    refuse(found)
    names = task.classes.names if task.classes else []
    if len(names) == 1 and names != [""]:
        path = splits["train"].facts.path
        raise ValueError(f"data: all rows of {path} are of one class, {names[0]!r}; there must be two or more")


def _no_numbers(column: str, splits: dict[str, Split]) -> Found:
    """The few values that make texts of a column of one split, where it is one of numbers in the other."""
    texts = [name for name, split in splits.items() if is_text(split.rows.data.schema.field(column).type)]
    if len(texts) != 1:
        return []
    values = values_of(splits[texts[0]].rows, column)
    why = f"not a number, as the labels of {next(name for name in splits if name != texts[0])} are"
    bad = [(row, f"{column!r} is {shortened(v)}, {why}") for row, v in enumerate(values, 1) if not _NUMBER(v)]
    return placed(splits[texts[0]], bad if 2 * len(bad) <= len(splits[texts[0]].rows) else [])


def placed(split: Split, rows: Iterable[tuple[int, str]]) -> Found:
    """What is wrong with rows of a split, with their places."""
    found = []
    for row, message in rows:
        file, place = split.place(row)
        found.append((file, Problem(place, message)))
    return found


def refuse(found: Found) -> None:
    """Raises ValueError if there are any problems, naming the first places of each file and counting the rest."""
    by_file: dict[int, tuple[FileTable, dict[int, list[str]]]] = {}
    for file, problem in found:
        places = by_file.setdefault(id(file), (file, {}))[1].setdefault(problem.line, [])
        if problem.message not in places:
            places.append(problem.message)
    parts = []
    for file, places in by_file.values():
        file.facts.rows_refused = len(places)
        shown: dict[str, list[int]] = {}
        for line in sorted(places)[:MOST]:
            shown.setdefault(" and ".join(places[line]), []).append(line)
        what = "; ".join(f"{file.unit} {', '.join(map(str, lines))}: {why}" for why, lines in shown.items())
        rest = f" (and {len(places) - MOST:,} more {file.unit}s)" if len(places) > MOST else ""
        parts.append(f"{file.facts.path} {what}{rest}")
    if parts:
        raise ValueError(f"data: {'; '.join(parts)}")
