"""The outputs of a judge as a column of tables, and as labels where there are none."""

from __future__ import annotations

from collections.abc import Iterator

from datasets import Dataset, DatasetDict

from distill.data.table import Split
from distill.tasks.kinds.texts import Classification
from distill.tasks.soft_labels import KEY, SoftLabelsError


def add_missing_labels(task: Classification, splits: dict[str, Split]) -> bool:
    """Return whether no split has the column of labels; then each gets one, which the judge's decisions will fill.

    The classes are those of the judge's words.

    Raises:
        ValueError: if some splits have the column.
    """
    without = [split for split in splits.values() if task.label not in split.rows.column_names]
    if len(without) < len(splits):
        return False
    task.labels = task.labels or dict(task.judge.labels)
    first = next(iter(task.judge.labels))
    for split in splits.values():
        for file in split.files:
            file.rows = file.rows.add_column(task.label, [first] * len(file.rows))
        split.rows = split.rows.add_column(task.label, [first] * len(split.rows))
    return True


def add_outputs(task: Classification, tables: DatasetDict, has_labels: bool) -> DatasetDict:
    """Return the tables with the judge's logits; without labels, with its decisions in their column.

    Raises:
        SoftLabelsError: if the judge cannot be asked, or it decides for one class everywhere and there are no labels.
    """
    rows = [row for table in tables.values() for row in _texts(task, table)]
    try:
        logits, task.judge_notes = task.judge.judge(rows, task.classes)
    except ValueError as error:
        raise SoftLabelsError(str(error)) from error
    start, judged = 0, DatasetDict()
    for name, table in tables.items():
        own, start = logits[start : start + len(table)], start + len(table)
        judged[name] = table.add_column(KEY, own)
        if not has_labels and name != "unlabelled":
            value_of = {output: value for value, output in task.classes.outputs.items()}
            decisions = [value_of[max(range(len(row)), key=row.__getitem__)] for row in own]
            judged[name] = judged[name].remove_columns(task.label).add_column(task.label, decisions)
    if not has_labels:
        if len(set(judged["train"][task.label])) < 2:
            raise SoftLabelsError(f"decides for {judged['train'][task.label][0]!r} in all training rows")
        task.judge_notes.append(
            f"the data has no column {task.label!r}: the teacher's decisions are the labels, and metrics the agreement "
            "with it"
        )
    return judged


def _texts(task: Classification, table: Dataset) -> Iterator[dict[str, str]]:
    for rows in table.select_columns(task.texts).iter(1_000):
        for values in zip(*(rows[column] for column in task.texts), strict=True):
            yield dict(zip(task.texts, values, strict=True))
