"""From tables to rows that are checked, labelled and turned into tokens."""

from __future__ import annotations

from contextlib import suppress

import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from distill.data.checks import placed, refuse, set_up
from distill.data.describe import describe, describe_split
from distill.data.files import splits_of
from distill.data.limit import check_pieces, labels_lost, truncation, uncut
from distill.tasks.columns import bad_texts, named
from distill.tasks.facts import DataFacts, Truncation
from distill.tasks.kinds.texts import TextTask
from distill.tasks.task import DataTask, Task

_IN_MEMORY = {"keep_in_memory": True, "load_from_cache_file": False, "desc": "reading"}


def prepare(
    task: Task, tokenizer: PreTrainedTokenizerBase, heads: dict[str, dict[int, str]] | None = None
) -> DatasetDict:
    """Return the rows of a task as the loop reads them, of several tasks those of all.

    Args:
        task: it and its parts are set up.
        tokenizer: of the student and the teachers.
        heads: by part, the names of a model's outputs; where they are those of the data, the run has their order and
            names.

    Raises:
        ValueError: naming the task, the file and the row, if a row cannot be used.
    """
    rows = {}
    for name, part in task.parts.items():
        try:
            rows[name] = _prepare_part(part, tokenizer, (heads or {}).get(name))
        except ValueError as error:
            raise ValueError(f"tasks: {name}: {error}" if name else str(error)) from error
    return task.join(rows)


def _prepare_part(task: DataTask, tokenizer: PreTrainedTokenizerBase, head: dict[int, str] | None) -> DatasetDict:
    """Return what ``task.encode`` makes, and ``length``; for validation also ``row``, the number of the row in
    ``task.validation``. Write what was read into ``task.facts``, also if this fails.
    """
    splits = splits_of(task.data)
    task.facts = DataFacts([split.facts for split in splits.values()])
    set_up(task, splits, tokenizer)
    tables = DatasetDict({name: task.mark(split.rows) for name, split in splits.items()})
    if "validation" not in tables:
        parts = tables["train"].train_test_split(test_size=0.1, seed=0, shuffle=not task.in_order)
        tables = DatasetDict(train=parts["train"], validation=parts["test"])
        splits["train"].facts.rows_held_out = len(parts["test"])
    if task.train_rows is not None:
        table = tables["train"] if task.in_order else tables["train"].shuffle(seed=0)
        tables["train"] = table.select(range(min(task.train_rows, len(table))))
    if head and task.classes:
        with suppress(ValueError):  # a head that is none of the task's is refused where the model is loaded
            task.classes.follow(list(head.values()))
    rows = DatasetDict({split: encode(task, table) for split, table in tables.items()})
    for name, split in splits.items():
        describe_split(task, split, len(tables[name]))
    describe(task, rows, _within_limit(task, tables, rows))
    if isinstance(task, TextTask) and task.unlabelled:
        rows["train"] = concatenate_datasets([rows["train"], encode(task, unlabelled(task))])
    if task.redrawn:
        rows["validation"] = rows["validation"].map(
            lambda row, number: task.draw(row, torch.Generator().manual_seed(number)), with_indices=True, **_IN_MEMORY
        )
    # Validation in the order of length: batches with hardly any padding, and no metric depends on the order.
    lengths = rows["validation"]["length"][:]
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    rows["validation"] = rows["validation"].add_column("row", list(range(len(lengths)))).select(by_length)
    task.validation = tables["validation"]
    return rows


def unlabelled(task: TextTask) -> Dataset:
    """The texts without labels.

    Raises:
        ValueError: if they cannot be read, lack a column, or a text is empty.
    """
    try:
        split = splits_of(task.unlabelled)["train"]
        split.facts.split = "unlabelled"
        task.facts.files.append(split.facts)
        named(split.rows, "data", task.texts)
        found = [(file, p) for file in split.files for p in file.problems if p.column in (None, *task.texts)]
        known = {(id(file), problem.line) for file, problem in found}
        bad = placed(split, bad_texts(split.rows, task.texts))
        refuse(found + [(file, problem) for file, problem in bad if (id(file), problem.line) not in known])
    except ValueError as error:
        raise ValueError(str(error).replace("data:", "unlabelled:", 1)) from error
    describe_split(task, split, len(split.rows))
    return split.rows.select_columns(task.texts)


def encode(task: DataTask, table: Dataset) -> Dataset:
    """What a task makes of the rows of a table, and their ``length`` in tokens."""

    def made(rows: dict[str, list]) -> dict[str, list]:
        found = task.encode(rows)
        return found | {"length": [len(ids) for ids in found["input_ids"]]}

    return table.map(made, batched=True, remove_columns=table.column_names, **_IN_MEMORY)


def _within_limit(task: DataTask, tables: DatasetDict, rows: DatasetDict) -> dict[str, Truncation]:
    """What is cut off of each split; labels that go with it are warned of in ``task.facts``, or refused."""
    found = {}
    for split, table in tables.items():
        if task.in_order:  # pieces lose nothing
            check_pieces(task, split, rows[split])
            continue
        there, whole = uncut(task, table, rows[split])
        task.facts.warnings += labels_lost(task, split, there, whole)
        found[split] = truncation(there, whole, "decoder_attention_mask" in rows[split].column_names)
    return found
