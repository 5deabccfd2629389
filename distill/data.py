"""From a name or a file to rows that are checked, labelled and turned into tokens."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict, concatenate_datasets, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from transformers import PreTrainedTokenizerBase

from distill.hub import loading
from distill.tasks import DataTask, MultiTask
from distill.tasks.columns import bad_texts, named
from distill.tasks.limit import lost
from distill.tasks.texts import TextTask

_READERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".arrow": "arrow"}
_IN_MEMORY = {"keep_in_memory": True, "load_from_cache_file": False, "desc": "reading"}
_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev", "eval")}


def read(name: str) -> DatasetDict:
    """The ``train`` and, where they stand apart, ``validation`` rows of a hub name, a folder or a file.

    Raises:
        ValueError: if there is no such thing here, or it holds no rows to train on.
    """
    path = Path(name)
    if path.is_file():
        found = DatasetDict(train=_read_file(path))
    elif path.is_dir():
        found = _read_folder(path)
    elif (
        name.startswith((".", "/", "~"))
        or path.suffix in _READERS
        or name.count("/") not in (1, 2)
        or path.parent.is_dir()
    ):
        raise ValueError(
            f"data: there is no file or folder {name!r}; a hub name is 'namespace/name' or 'namespace/name/config'"
        )
    else:
        repository, config = "/".join(name.split("/")[:2]), [*name.split("/"), None][2]
        try:
            with loading(repository):
                found = load_dataset(repository, config)
        except ValueError as error:
            raise ValueError(f"data: {error}") from error
    chosen = {split: next((key for key in found if key.startswith(keys)), None) for split, keys in _SPLITS.items()}
    splits = DatasetDict({split: found[key] for split, key in chosen.items() if key and len(found[key])})
    if "train" not in splits:
        raise ValueError(f"data: {name!r} has no training rows (splits: {', '.join(found)})")
    if len(splits["train"]) < 2:
        raise ValueError(f"data: {name!r} has one training row; there must be more")
    return splits


def _read_file(path: Path) -> Dataset:
    kind = _READERS.get(path.suffix)
    if kind is None:
        raise ValueError(f"data: {path} is not one of {', '.join(_READERS)}")
    # A text may be "null" or "NA", and a class may be called so.
    options = {"sep": "\t" if path.suffix == ".tsv" else ",", "keep_default_na": False} if kind == "csv" else {}
    try:
        return load_dataset(kind, data_files=str(path), split="train", **options)
    except (DatasetGenerationError, ValueError, StopIteration) as error:
        raise ValueError(f"data: {path} cannot be read: {error.__cause__ or error or 'it is empty'}") from error


def _read_folder(path: Path) -> DatasetDict:
    if (path / "dataset_dict.json").exists():
        return load_from_disk(str(path))
    if (path / "state.json").exists():
        return DatasetDict(train=load_from_disk(str(path)))
    files = {
        split: next((f for f in sorted(path.iterdir()) if f.suffix in _READERS and f.stem.startswith(names)), None)
        for split, names in _SPLITS.items()
    }
    if files["train"] is None:
        wanted = ", ".join(f"train{suffix}" for suffix in _READERS)
        raise ValueError(f"data: the folder {str(path)!r} has no train file ({wanted})")
    return DatasetDict({split: _read_file(file) for split, file in files.items() if file})


def check(task: DataTask, tables: DatasetDict) -> None:
    """Looks through all rows, as they stand in the files.

    Raises:
        ValueError: naming the file, and the row (counted from 1) if one cannot be used.
    """
    kinds = {}
    for split, table in tables.items():
        file = _file(task.data, split)
        for name in task.columns:
            if name not in table.column_names:
                raise ValueError(f"data: {file} has no column {name!r}; there are {', '.join(table.column_names)}")
        kinds[split] = task.kind(table)
        refuse(f"data: {file}", task.bad_rows(table))
    # Class 0 of one file must not be class 1 of the other.
    if kinds.get("validation", kinds["train"]) != kinds["train"]:
        raise ValueError(f"data: the labels are {kinds['train']} for training, {kinds['validation']} for validation")


def refuse(where: str, rows: Iterable[tuple[int, str]]) -> None:
    """Raises ValueError if there are any such rows, naming the first."""
    if bad := list(rows):
        more = f" (and {len(bad) - 1} more such rows)" if len(bad) > 1 else ""
        raise ValueError(f"{where} row {bad[0][0]}: {bad[0][1]}{more}")


def prepare(task: DataTask, tokenizer: PreTrainedTokenizerBase, head: dict[int, str] | None = None) -> DatasetDict:
    """The rows as the loop reads them: what ``task.encode`` makes, and ``length``; for validation also ``row``, the
    number of the row in ``task.validation``.

    Args:
        task: what to read; it is set up.
        tokenizer: of the student and the teacher.
        head: the teacher's class names; where they are those of the data, the outputs take its order and names.

    Raises:
        ValueError: naming the file and the row, if a row cannot be used.
    """
    tables = read(task.data)
    task.setup(tables["train"], tokenizer)
    check(task, tables)
    tables = DatasetDict({split: task.mark(table) for split, table in tables.items()})
    if "validation" not in tables:
        parts = tables["train"].train_test_split(test_size=0.1, seed=0, shuffle=not task.in_order)
        tables = DatasetDict(train=parts["train"], validation=parts["test"])
    if task.train_rows is not None:
        table = tables["train"] if task.in_order else tables["train"].shuffle(seed=0)
        tables["train"] = table.select(range(min(task.train_rows, len(table))))
    if head and task.classes:
        with suppress(ValueError):  # a head that is none of the task's is refused where the model is loaded
            task.classes.follow(list(head.values()))
    rows = DatasetDict({split: encode(task, table) for split, table in tables.items()})
    for split, table in tables.items():
        task.notes += lost(task, split, table, rows[split])
    if isinstance(task, TextTask) and task.unlabelled:
        rows["train"] = concatenate_datasets([rows["train"], encode(task, unlabelled(task))])
    if task.redrawn:
        rows["validation"] = rows["validation"].map(
            lambda row, number: task.draw(row, torch.Generator().manual_seed(number)), with_indices=True, **_IN_MEMORY
        )
    # Validation in the order of length: batches with hardly any padding, and no metric depends on the order.
    lengths = rows["validation"]["length"]
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    rows["validation"] = rows["validation"].add_column("row", list(range(len(lengths)))).select(by_length)
    task.validation = tables["validation"]
    return rows


def prepare_several(
    task: MultiTask, tokenizer: PreTrainedTokenizerBase, heads: dict[str, dict[int, str]]
) -> tuple[DatasetDict, list[str]]:
    """The rows of all tasks, one task after the other, and ``task``, its number; and what was left out.

    Training rows that another task's validation knows are left out: data sets overlap (MRPC and STS-B do).

    Args:
        task: what to read; it and its parts are set up.
        tokenizer: of the student and the teachers.
        heads: the class names of the tasks' own teachers.

    Raises:
        ValueError: naming the task, the file and the row, if a row cannot be used.
    """
    found, notes = {}, []
    for name, part in task.tasks.items():
        try:
            found[name] = prepare(part, tokenizer, heads.get(name))
        except ValueError as error:
            raise ValueError(f"tasks: {name}: {error}") from error
        notes += [f"{name}: {note}" for note in part.notes]
    task.join()
    kept = {split: [] for split in ("train", "validation")}
    for name, splits in found.items():
        others = {tuple(ids) for other in found if other != name for ids in found[other]["validation"]["input_ids"]}
        fresh = [i for i, ids in enumerate(splits["train"]["input_ids"]) if tuple(ids) not in others]
        if left := len(splits["train"]) - len(fresh):
            notes.append(f"{name}: {left} training rows were left out, which other tasks are validated on")
        for split, rows in (("train", splits["train"].select(fresh)), ("validation", splits["validation"])):
            labels = Dataset.from_dict({"labels": [float(label) for label in rows["labels"]]})
            rows = concatenate_datasets([rows.remove_columns("labels"), labels], axis=1)
            kept[split].append(rows.add_column("task", [task.number(name)] * len(rows)))
    return DatasetDict({split: concatenate_datasets(parts) for split, parts in kept.items()}), notes


def unlabelled(task: TextTask) -> Dataset:
    """The texts without labels.

    Raises:
        ValueError: if they cannot be read, lack a column, or a text is empty.
    """
    try:
        table = read(task.unlabelled)["train"]
        named(table, "data", task.texts)
        refuse(f"data: {task.unlabelled}", bad_texts(table, task.texts))
    except ValueError as error:
        raise ValueError(str(error).replace("data:", "unlabelled:", 1)) from error
    return table.select_columns(task.texts)


def encode(task: DataTask, table: Dataset) -> Dataset:
    """What a task makes of the rows of a table, and their ``length`` in tokens."""

    def made(rows: dict[str, list]) -> dict[str, list]:
        found = task.encode(rows)
        return found | {"length": [len(ids) for ids in found["input_ids"]]}

    return table.map(made, batched=True, remove_columns=table.column_names, **_IN_MEMORY)


def _file(name: str, split: str) -> str:
    path = Path(name)
    if path.is_dir():
        files = [f for f in sorted(path.iterdir()) if f.suffix in _READERS and f.stem.startswith(_SPLITS[split])]
        return str(files[0]) if files else f"{name} ({split})"
    return name if path.is_file() else f"{name} ({split})"
