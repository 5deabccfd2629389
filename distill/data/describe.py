"""Facts about the rows that were read: columns, classes, and possible mistakes."""

from __future__ import annotations

import difflib
from collections import Counter
from itertools import chain

from datasets import Dataset, DatasetDict

from distill.data.table import Split
from distill.tasks.columns import shorten, values_of
from distill.tasks.data_task import DataTask
from distill.tasks.facts import Truncation
from students.recording.second_text import TEXTS

_KEYS = ("text", "document", "words", "tags", "source", "target")
"""Keys of tasks that name a column."""


def fill_split_facts(task: DataTask, split: Split, rows_kept: int) -> None:
    """Fill in the columns and the row counts of a split.

    Args:
        task: is set up.
        split: whose facts are filled in.
        rows_kept: the number of its rows that are trained or validated on.
    """
    facts = split.facts
    facts.rows_kept = rows_kept
    facts.rows_left_out = len(split.rows) - facts.rows_held_out - rows_kept
    columns, used = split.rows.column_names, [*task.columns, *task.soft_columns]
    facts.columns_used = {name: _column_use(task, name) for name in used if name in columns}
    facts.columns_ignored = [name for name in columns if name not in facts.columns_used] + facts.columns_ignored


def fill_facts(task: DataTask, rows: DatasetDict, truncation: dict[str, Truncation]) -> None:
    """Fill in the classes, truncation, duplicates and warnings of ``task.facts``.

    Args:
        task: is set up.
        rows: tokenized.
        truncation: by split.
    """
    facts = task.facts
    names = task.classes.names if task.classes and task.classes.names != [""] else []
    counts = {split: _counts(task, table) if names else Counter() for split, table in rows.items()}
    facts.classes = {name: {split: counts[split][i] for split in rows} for i, name in enumerate(names)}
    facts.truncation = {split: cut for split, cut in truncation.items() if cut.rows}
    if not task.in_order:
        facts.duplicates = _duplicates(rows["train"], rows["validation"])
        facts.test_duplicates = _duplicates(rows["train"], rows["test"]) if "test" in rows else 0
    if task.is_multi_label:
        kept = {
            split: [list(task.label_classes(labels)) for labels in values_of(rows[split], "labels")] for split in rows
        }
        empty = ", ".join(f"{classes.count([]):,} {split}" for split, classes in kept.items())
        task.notes.append(f"rows without a label: {empty}")
    facts.notes = task.notes
    facts.warnings += class_warnings({name: count["train"] for name, count in facts.classes.items()})


def class_warnings(counts: dict[str, int]) -> list[str]:
    """Return the possible mistakes in classes.

    These are: names that differ only in case or whitespace, a name that occurs once and is similar to another, and a
    class without training rows.

    Args:
        counts: {class: number of its training rows}.
    """
    warnings, by_folded_name = [], {}
    for name in counts:
        by_folded_name.setdefault("".join(name.split()).casefold(), []).append(name)
    for names in by_folded_name.values():
        if len(names) > 1:
            warnings.append(f"the classes {', '.join(map(repr, names))} differ only in case or whitespace")
    similar = set(chain.from_iterable(names for names in by_folded_name.values() if len(names) > 1))
    frequent = [name for name, count in counts.items() if count > 1]
    for name, count in counts.items():
        if count == 1 and name not in similar and frequent:
            matches = difflib.get_close_matches(name, frequent, 1, 0.75) if not name[-1:].isdigit() else []
            hint = f"; did you mean {matches[0]!r}?" if matches else ""
            warnings.append(f"the class {name!r} has one training row{hint}")
    empty = [name for name, count in counts.items() if not count]
    if empty:
        warnings.append(f"no training row has the class {', '.join(shorten(name) for name in empty[:10])}")
    if len(counts) > 2 and all(count == 1 for count in counts.values()):
        warnings.append("every training row has a different class")
    return warnings


def _duplicates(train: Dataset, other: Dataset) -> int:
    """Return the number of training rows whose tokens are those of a text of another split."""
    columns = [name for name in (f"{prefix}input_ids" for prefix in TEXTS) if name in other.column_names]
    tokens = {tuple(ids) for name in columns for ids in values_of(other, name)}
    return sum(tuple(ids) in tokens for ids in values_of(train, "input_ids"))


def _counts(task: DataTask, rows: Dataset) -> Counter:
    return Counter(chain.from_iterable(map(task.label_classes, values_of(rows, "labels"))))


def _column_use(task: DataTask, column: str) -> str:
    """Return the key of the task that names a column, or the column's own name."""
    texts = getattr(task, "texts", [])
    if column in texts:
        return "text" if len(texts) == 1 else f"text {texts.index(column) + 1} of {len(texts)}"
    if column in task.soft_columns:
        return "teacher"
    if column in getattr(task, "label_columns", []):
        return "label"
    return next((key for key in _KEYS if getattr(task, key, None) == column), column)
