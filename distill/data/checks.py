"""Checks of all rows of all files; all unusable rows are reported in one message, with their locations."""

from __future__ import annotations

import re
from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from distill.config.errors import did_you_mean
from distill.data.table import FileTable, Problem, Split
from distill.tasks.columns import is_text, list_names, shorten, values_of
from distill.tasks.data_task import DataTask

MAX_SHOWN = 10
"""Number of locations that are shown per file."""

_NUMBER = re.compile(r"\s*[+-]?\d+\s*").fullmatch

LocatedProblems = list[tuple[FileTable, Problem]]
"""Problems, each with its file."""


def setup_and_check(task: DataTask, splits: dict[str, Split], tokenizer: PreTrainedTokenizerBase) -> None:
    """Set up a task on the training rows, and check all rows of all splits.

    Raises:
        ValueError: naming the files and the lines (or rows, in files without lines) that cannot be used.
    """
    problems = [(file, problem) for split in splits.values() for file in split.files for problem in file.problems]
    bad_types = [p for split in splits.values() for p in locate_problems(split, task.bad_types(split.rows))]
    if bad_types:
        raise_problems(problems + bad_types)
    for name, split in splits.items():
        check_soft_columns(task, split, is_required=name == "train")
    try:
        task.setup(splits["train"].rows, tokenizer)
    except ValueError as error:
        raise_problems(problems)
        if file := next((file for file in splits["train"].files if file.no_header), None):
            names = list_names(file.rows.column_names)
            hint = f"the first line of {file.facts.path} must name the columns, and seems to be a row: {names}"
            raise ValueError(f"{error}; {hint}") from error
        raise
    used = (None, *task.columns, *task.soft_columns)
    problems = [(file, problem) for file, problem in problems if problem.column in used]
    for split in splits.values():
        for name in task.columns:
            if name not in split.rows.column_names:
                raise_problems(problems)
                columns = list_names(split.rows.column_names)
                raise ValueError(f"data: {split.facts.path} has no column {name!r}; there are {columns}")
    kinds = {split: task.label_kind(table.rows) for split, table in splits.items()}
    bad = {split: locate_problems(table, task.bad_rows(table.rows)) for split, table in splits.items()}
    # Class 0 of one file could be class 1 of the other.
    train, validation = kinds["train"], kinds.get("validation", kinds["train"])
    if train != validation:
        # A missing label, too, turns a column of numbers into strings.
        raise_problems(problems + bad["train"] + bad["validation"])
        raise_problems([problem for name in task.columns for problem in _non_numbers(name, splits)])
        raise ValueError(f"data: the labels are {train} for training, {validation} for validation")
    known = {(id(file), problem.line) for file, problem in problems}
    problems += [(file, p) for located in bad.values() for file, p in located if (id(file), p.line) not in known]
    raise_problems(problems)
    names = task.classes.names if task.classes else []
    if len(names) == 1 and names != [""]:
        path = splits["train"].facts.path
        raise ValueError(f"data: all rows of {path} are of one class, {names[0]!r}; there must be two or more")


def unlabelled_test(task: DataTask, train: Split, test: Split) -> str:
    """Check all rows of the test split; return why no model can be evaluated on it, empty if it can.

    Published test splits often have no labels.

    Args:
        task: is set up.
        train: the training rows.
        test: the rows of the test split.

    Raises:
        ValueError: naming the lines that cannot be used, if there are others.
    """
    columns = task.columns
    if missing := [name for name in columns if name not in test.rows.column_names]:
        return f"it has no column {missing[0]!r}"
    check_soft_columns(task, test)
    used = (None, *columns, *task.soft_columns)
    problems = [(file, problem) for file in test.files for problem in file.problems if problem.column in used]
    bad = list(task.bad_types(test.rows)) or list(task.bad_rows(test.rows))
    if len({row for row, _ in bad}) == len(test.rows):
        return f"in all rows {bad[0][1]}"
    raise_problems(problems + locate_problems(test, bad))
    kinds = task.label_kind(train.rows), task.label_kind(test.rows)
    if kinds[0] != kinds[1]:
        raise ValueError(f"data: the labels are {kinds[0]} for training, {kinds[1]} for test")
    return ""


def check_soft_columns(task: DataTask, split: Split, is_required: bool = False) -> None:
    """Check that a split has the columns of the teacher's outputs, or unless they are required none of them.

    Raises:
        ValueError: naming a column that it lacks.
    """
    missing = task.soft_labels.missing(split.rows) if task.soft_labels else []
    if missing and (is_required or len(missing) < len(task.soft_columns)):
        columns = split.rows.column_names
        hint = did_you_mean(missing[0], [name for name in columns if name not in task.soft_columns])
        names = f"{', '.join(map(repr, missing))} of the teacher (teacher.columns)"
        raise ValueError(f"data: {split.facts.path} has no column {names}{hint}; there are {list_names(columns)}")


def _non_numbers(column: str, splits: dict[str, Split]) -> LocatedProblems:
    """Return the few values that turn a column of numbers in one split into strings in the other."""
    string_splits = [name for name, split in splits.items() if is_text(split.rows.data.schema.field(column).type)]
    if len(string_splits) != 1:
        return []
    split = splits[string_splits[0]]
    reason = f"not a number, as the labels of {next(name for name in splits if name != string_splits[0])} are"
    values = enumerate(values_of(split.rows, column), 1)
    bad = [(row, f"{column!r} is {shorten(value)}, {reason}") for row, value in values if not _NUMBER(value)]
    return locate_problems(split, bad if 2 * len(bad) <= len(split.rows) else [])


def locate_problems(split: Split, rows: Iterable[tuple[int, str]]) -> LocatedProblems:
    """Return (row, message) pairs of a split as problems with their file and line."""
    problems = []
    for row, message in rows:
        file, line = split.locate(row)
        problems.append((file, Problem(line, message)))
    return problems


def raise_problems(problems: LocatedProblems) -> None:
    """Raise ValueError if there are problems, with the first locations of each file and the number of the others."""
    by_file: dict[int, tuple[FileTable, dict[int, list[str]]]] = {}
    for file, problem in problems:
        messages = by_file.setdefault(id(file), (file, {}))[1].setdefault(problem.line, [])
        if problem.message not in messages:
            messages.append(problem.message)
    parts = []
    for file, by_line in by_file.values():
        file.facts.rows_refused = len(by_line)
        shown: dict[str, list[int]] = {}
        for line in sorted(by_line)[:MAX_SHOWN]:
            shown.setdefault(" and ".join(by_line[line]), []).append(line)
        text = "; ".join(f"{file.unit} {', '.join(map(str, lines))}: {message}" for message, lines in shown.items())
        rest = f" (and {len(by_line) - MAX_SHOWN:,} more {file.unit}s)" if len(by_line) > MAX_SHOWN else ""
        parts.append(f"{file.facts.path} {text}{rest}")
    if parts:
        raise ValueError(f"data: {'; '.join(parts)}")
