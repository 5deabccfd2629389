"""The facts about rows that were read: columns, classes, and what may be a mistake in them."""

from __future__ import annotations

import difflib
from collections import Counter
from itertools import chain

from datasets import Dataset, DatasetDict

from distill.data.table import Split
from distill.tasks.columns import shortened, values_of
from distill.tasks.facts import Truncation
from distill.tasks.task import DataTask

_KEYS = ("text", "document", "label", "words", "tags", "source", "target")
"""Keys of tasks that name a column."""


def describe_split(task: DataTask, split: Split, kept: int) -> None:
    """Fills in the columns and the counts of a split; ``kept`` rows of it are trained or validated on."""
    facts = split.facts
    facts.rows_kept = kept
    facts.rows_left_out = len(split.rows) - facts.rows_held_out - kept
    there = split.rows.column_names
    facts.columns_used = {name: _use(task, name) for name in task.columns if name in there}
    facts.columns_ignored = [name for name in there if name not in facts.columns_used] + facts.columns_ignored


def describe(task: DataTask, rows: DatasetDict, truncation: dict[str, Truncation]) -> None:
    """Fills in classes, tokens that are cut off, rows on both sides and warnings.

    Args:
        task: is set up; its ``facts`` are filled in.
        rows: as tokens.
        truncation: by split.
    """
    facts = task.facts
    names = task.classes.names if task.classes and task.classes.names != [""] else []
    counts = {split: _counts(table) if names else Counter() for split, table in rows.items()}
    facts.classes = {name: {split: counts[split][i] for split in rows} for i, name in enumerate(names)}
    facts.truncation = {split: cut for split, cut in truncation.items() if cut.rows}
    if not task.in_order:
        shown = {tuple(ids) for ids in values_of(rows["validation"], "input_ids")}
        facts.duplicates = sum(tuple(ids) in shown for ids in values_of(rows["train"], "input_ids"))
    facts.notes = task.notes
    facts.warnings += class_warnings({name: count["train"] for name, count in facts.classes.items()})


def class_warnings(counts: dict[str, int]) -> list[str]:
    """What may be a mistake in classes: names that differ in case or blanks, a name seen once that is like another,
    a class without rows.

    Args:
        counts: {class: its training rows}.
    """
    found, same = [], {}
    for name in counts:
        same.setdefault("".join(name.split()).casefold(), []).append(name)
    for names in same.values():
        if len(names) > 1:
            found.append(f"the classes {', '.join(map(repr, names))} differ in case or blanks alone")
    alike = set(chain.from_iterable(names for names in same.values() if len(names) > 1))
    often = [name for name, count in counts.items() if count > 1]
    for name, count in counts.items():
        if count == 1 and name not in alike and often:
            near = difflib.get_close_matches(name, often, 1, 0.75) if not name[-1:].isdigit() else []
            found.append(f"the class {name!r} has one training row" + (f"; did you mean {near[0]!r}?" if near else ""))
    empty = [name for name, count in counts.items() if not count]
    if empty:
        found.append(f"no training row is of the class {', '.join(shortened(name) for name in empty[:10])}")
    if len(counts) > 2 and all(count == 1 for count in counts.values()):
        found.append("every training row has a class of its own")
    return found


def _counts(rows: Dataset) -> Counter:
    labels = list(values_of(rows, "labels"))
    return Counter(chain.from_iterable(labels) if len(labels) and isinstance(labels[0], list) else labels)


def _use(task: DataTask, column: str) -> str:
    """What a column is for: the key of the task that names it, or its own name."""
    texts = getattr(task, "texts", [])
    if column in texts:
        return "text" if len(texts) == 1 else f"text {texts.index(column) + 1} of {len(texts)}"
    return next((key for key in _KEYS if getattr(task, key, None) == column), column)
