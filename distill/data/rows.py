"""Turn tables into checked, labelled and tokenized rows."""

from __future__ import annotations

from contextlib import suppress

import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from distill.data.checks import check_soft_columns, locate_problems, raise_problems, setup_and_check, unlabelled_test
from distill.data.describe import fill_facts, fill_split_facts
from distill.data.files import read_splits
from distill.data.limit import check_pieces, encode_untruncated, lost_label_warnings, measure_truncation
from distill.data.teachers.judged import add_missing_labels, add_outputs
from distill.tasks.columns import bad_texts
from distill.tasks.data_task import DataTask
from distill.tasks.facts import DataFacts, Truncation
from distill.tasks.kinds.text_task import TextTask
from distill.tasks.task import Task

_IN_MEMORY = {"keep_in_memory": True, "load_from_cache_file": False, "desc": "reading"}


def prepare_data(
    task: Task, tokenizer: PreTrainedTokenizerBase, heads: dict[str, dict[int, str]] | None = None
) -> DatasetDict:
    """Read, check and tokenize the data of a task, or of the parts of several tasks.

    Args:
        task: it and its parts are set up here.
        tokenizer: of the student and the teachers.
        heads: {part: names of a model's outputs}; the run takes their names and order if they match the data's classes.

    Returns:
        The rows of each split.

    Raises:
        ValueError: naming the task, the file and the row, if a row cannot be used.
    """
    rows = {}
    for name, part in task.parts.items():
        try:
            rows[name] = _prepare_part(part, tokenizer, (heads or {}).get(name))
        except ValueError as error:
            if not name:
                raise
            raise ValueError(f"tasks: {name}: {error}") from error
    return task.join(rows)


def _prepare_part(task: DataTask, tokenizer: PreTrainedTokenizerBase, head: dict[int, str] | None) -> DatasetDict:
    """Return the output of ``task.encode`` and ``length`` for each row of a part.

    Validation and test rows also have ``row``, their index in ``task.validation`` or ``task.test``. ``task.facts``
    describes what was read, even if this fails.
    """
    splits = read_splits(task.data)
    task.facts = DataFacts([split.facts for split in splits.values()])
    test = splits.pop("test", None)
    has_labels = not (task.judge and add_missing_labels(task, splits))
    setup_and_check(task, splits, tokenizer)
    if test and (reason := unlabelled_test(task, splits["train"], test)):
        task.notes.append(f"{test.facts.path} is not evaluated: {reason}")
    elif test:
        splits["test"] = test
    tables = DatasetDict({name: task.mark_documents(split.rows) for name, split in splits.items()})
    if "validation" not in tables:
        parts = tables["train"].train_test_split(test_size=0.1, seed=0, shuffle=not task.in_order)
        tables |= {"train": parts["train"], "validation": parts["test"]}
        splits["train"].facts.rows_held_out = task.count_rows(parts["test"])
    if task.max_train_samples is not None:
        table = tables["train"] if task.in_order else tables["train"].shuffle(seed=0)
        tables["train"] = table.select(range(min(task.max_train_samples, len(table))))
    if head and task.classes:
        with suppress(ValueError):  # an unsuitable head is refused where the model is loaded
            task.classes.follow(list(head.values()))
    extra = unlabelled(task) if isinstance(task, TextTask) and task.unlabelled else None
    if task.judge:
        judged = add_outputs(task, tables | ({"unlabelled": extra} if extra else {}), has_labels)
        extra = judged.pop("unlabelled", None)
        tables = judged
    for name, split in splits.items():
        fill_split_facts(task, split, task.count_rows(tables[name]))
    tables["train"] = task.training_rows(tables["train"])
    rows = DatasetDict({split: encode(task, table) for split, table in tables.items()})
    fill_facts(task, rows, _check_truncation(task, tables, rows))
    if extra:
        rows["train"] = concatenate_datasets(
            [rows["train"], encode(task, task.training_rows(task.mark_documents(extra)))]
        )
    for split in rows.keys() - {"train"}:
        rows[split] = sort_by_length(redraw_rows(task, rows[split]))
    task.validation, task.test = tables["validation"], tables.get("test")
    return rows


def sort_by_length(rows: Dataset) -> Dataset:
    """Return rows to evaluate on with their index as ``row``, sorted: batches have little padding.

    No metric depends on the order.
    """
    lengths = rows["length"][:]
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    return rows.add_column("row", list(range(len(lengths)))).select(by_length)


def redraw_rows(task: DataTask, rows: Dataset) -> Dataset:
    """Return rows to evaluate on; if the task draws their inputs, each is drawn once, from its number."""
    if not task.redraws_rows:
        return rows
    return rows.map(
        lambda row, number: task.redraw(row, torch.Generator().manual_seed(number)), with_indices=True, **_IN_MEMORY
    )


def unlabelled(task: TextTask) -> Dataset:
    """Read the unlabelled texts of a task.

    Raises:
        ValueError: if they cannot be read, lack a column, or a text is empty.
    """
    try:
        split = read_splits(task.unlabelled)["train"]
        split.facts.split = "unlabelled"
        task.facts.files.append(split.facts)
        texts = task.unlabelled_columns(split.rows)
        check_soft_columns(task, split, is_required=True)
        used = (None, *texts, *task.soft_columns)
        problems = [(file, p) for file in split.files for p in file.problems if p.column in used]
        known = {(id(file), problem.line) for file, problem in problems}
        bad_rows = [*bad_texts(split.rows, texts)]
        if task.soft_labels:
            bad_rows += task.soft_labels.bad_rows(split.rows, task.classes, "and the row has no label either")
        bad = locate_problems(split, bad_rows)
        raise_problems(problems + [(file, problem) for file, problem in bad if (id(file), problem.line) not in known])
    except ValueError as error:
        raise ValueError(str(error).replace("data:", "unlabelled:", 1)) from error
    fill_split_facts(task, split, len(split.rows))
    return split.rows.select_columns([*texts, *task.soft_columns])


def encode(task: DataTask, table: Dataset) -> Dataset:
    """Return the rows of a table as the task encodes them, with their ``length`` in tokens."""

    def encode_rows(rows: dict[str, list]) -> dict[str, list]:
        columns = task.encode(rows)
        return columns | {"length": [len(ids) for ids in columns["input_ids"]]}

    return table.map(encode_rows, batched=True, remove_columns=table.column_names, **_IN_MEMORY)


def _check_truncation(task: DataTask, tables: DatasetDict, rows: DatasetDict) -> dict[str, Truncation]:
    """Return the truncation of each split; lost labels become warnings in ``task.facts``, or errors."""
    truncations = {}
    for split, table in tables.items():
        if task.in_order:  # text that is cut into pieces loses nothing
            check_pieces(task, split, rows[split])
            continue
        encoded, untruncated = encode_untruncated(task, table, rows[split])
        task.facts.warnings += lost_label_warnings(task, split, encoded, untruncated)
        writes_texts = "decoder_attention_mask" in rows[split].column_names
        truncations[split] = measure_truncation(encoded, untruncated, count_labels=writes_texts)
    return truncations
