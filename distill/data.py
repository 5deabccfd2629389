"""From a name or a file to rows that are checked, labelled and turned into tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from transformers import PreTrainedTokenizerBase

from distill.hub import loading
from distill.tasks import Task

_READERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".arrow": "arrow"}
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


def columns(task: Task, table: Dataset) -> list[str]:
    """The one or two columns of texts.

    Raises:
        ValueError: if a column is missing, or more than two columns hold texts and none was named.
    """
    there = ", ".join(table.column_names)
    if task.text is not None:
        named = [task.text] if isinstance(task.text, str) else task.text
    else:
        named = [
            name
            for name, kind in table.features.items()
            if name != task.label and getattr(kind, "dtype", "") in ("string", "large_string")
        ]
        if not 1 <= len(named) <= 2:
            raise ValueError(f"text: name the column of the text, or the two of a pair; there are {there}")
    for key, name in [("text", name) for name in named] + [("label", task.label)]:
        if name not in table.column_names:
            raise ValueError(f"{key}: there is no column {name!r}; there are {there}")
    return named


def label_names(task: Task, table: Dataset) -> list[str]:
    """The names of the classes in the order of the head's outputs; one empty name for regression."""
    if task.problem == "regression":
        return [""]
    feature = table.features[task.label]
    if isinstance(feature, ClassLabel):
        return feature.names
    values = {value for value in table[task.label] if value is not None}
    if all(isinstance(value, int) for value in values):
        return [f"LABEL_{i}" for i in range(max(values, default=0) + 1)]
    return sorted(map(str, values))


def bad_rows(task: Task, table: Dataset, texts: list[str], labels: list[str]) -> Iterator[tuple[int, str]]:
    """The rows that cannot be used: (row counted from 1, what is wrong with it)."""
    for column in texts:
        for row, text in enumerate(table[column], 1):
            if not isinstance(text, str) or not text.strip():
                yield (
                    row,
                    f"{column!r} is {'empty' if text is None or isinstance(text, str) else f'{text!r}, not a text'}",
                )
    missing = [row for row, label in enumerate(table[task.label], 1) if label is None or label == ""]
    yield from ((row, f"{task.label!r} is missing") for row in missing)
    # A gap makes real numbers of a column of classes; then the other rows are not at fault.
    for row, label in enumerate([] if missing else table[task.label], 1):
        if task.problem == "regression":
            if not _is_number(label):
                yield row, f"{task.label!r} is {label!r}, not a number"
        elif isinstance(label, float):
            yield (
                row,
                f"{task.label!r} is {label!r}; a class is a whole number or a text, and real numbers are for "
                f"regression",
            )
        elif not 0 <= label < len(labels) if isinstance(label, int) else label not in labels:
            yield row, f"{task.label!r} is {label!r}, not one of {', '.join(labels)}"


def _is_number(label: object) -> bool:
    try:
        return math.isfinite(float(label))
    except (TypeError, ValueError):
        return False


def check(task: Task, tables: DatasetDict, texts: list[str], labels: list[str]) -> None:
    """Looks through all rows, as they stand in the files.

    Raises:
        ValueError: naming the file, and the row (counted from 1) if one cannot be used.
    """
    kinds = {}
    for split, table in tables.items():
        file = _file(task.data, split)
        for name in [*texts, task.label]:
            if name not in table.column_names:
                raise ValueError(f"data: {file} has no column {name!r}; there are {', '.join(table.column_names)}")
        feature = table.features[task.label]
        kinds[split] = getattr(feature, "names", None) or ("texts" if "string" in str(feature.dtype) else "numbers")
        bad = list(bad_rows(task, table, texts, labels))
        if bad:
            more = f" (and {len(bad) - 1} more such rows)" if len(bad) > 1 else ""
            raise ValueError(f"data: {file} row {bad[0][0]}: {bad[0][1]}{more}")
    # Class 0 of one file must not be class 1 of the other.
    if task.problem != "regression" and kinds.get("validation", kinds["train"]) != kinds["train"]:
        raise ValueError(f"data: the labels are {kinds['train']} for training, {kinds['validation']} for validation")


def encode(
    task: Task, table: Dataset, tokenizer: PreTrainedTokenizerBase, texts: list[str], labels: list[str]
) -> Dataset:
    """Rows of ``input_ids``, ``attention_mask`` (and ``token_type_ids``), ``labels``, ``length``."""
    numbers = {name: i for i, name in enumerate(labels)}

    def tokens(rows: dict[str, list]) -> dict[str, list]:
        found = tokenizer(*(rows[column] for column in texts), truncation=True, max_length=task.max_length)
        given = rows[task.label]
        found["labels"] = (
            [float(x) for x in given] if task.problem == "regression" else [numbers.get(x, x) for x in given]
        )
        found["length"] = [len(ids) for ids in found["input_ids"]]
        return dict(found)

    return table.map(
        tokens,
        batched=True,
        remove_columns=table.column_names,
        keep_in_memory=True,
        load_from_cache_file=False,
        desc="reading",
    )


def prepare(
    task: Task, tokenizer: PreTrainedTokenizerBase, head: dict[int, str] | None = None
) -> tuple[DatasetDict, DatasetDict, list[str], list[str]]:
    """The rows as they are, the rows as tokens, the columns of texts, and the names of the classes.

    Args:
        task: what to read.
        tokenizer: of the student and the teacher.
        head: the teacher's class names; where they are the data's own in another order, the data takes the teacher's
            order, and where the data has numbers alone, the teacher's names.

    Raises:
        ValueError: naming the file and the row, if a row cannot be used.
    """
    tables = read(task.data)
    texts, labels = columns(task, tables["train"]), label_names(task, tables["train"])
    special = tokenizer.num_special_tokens_to_add(pair=len(texts) == 2)
    if task.max_length <= special:
        raise ValueError(f"max_length: {task.max_length} leaves no room for text beside {special} special tokens")
    check(task, tables, texts, labels)
    if "validation" not in tables:
        parts = tables["train"].train_test_split(test_size=0.1, seed=0)
        tables = DatasetDict(train=parts["train"], validation=parts["test"])
    if task.train_rows is not None:
        tables["train"] = tables["train"].shuffle(seed=0).select(range(min(task.train_rows, len(tables["train"]))))
    if head and len(head) == len(labels) and labels[0].startswith("LABEL_"):
        labels = list(head.values())  # numbers without names: the teacher has them, or nobody
    if head and sorted(head.values()) == sorted(labels) and list(head.values()) != labels:
        order = ClassLabel(names=[head[i] for i in range(len(head))])
        tables = DatasetDict({split: _renumber(table, task.label, labels, order) for split, table in tables.items()})
        labels = order.names
    rows = DatasetDict({split: encode(task, table, tokenizer, texts, labels) for split, table in tables.items()})
    # Validation in the order of length: batches with hardly any padding, and no metric depends on the order.
    lengths = rows["validation"]["length"]
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    tables["validation"], rows["validation"] = (found["validation"].select(by_length) for found in (tables, rows))
    return tables, rows, texts, labels


def _renumber(table: Dataset, column: str, old: list[str], new: ClassLabel) -> Dataset:
    values = [new.str2int(old[value] if isinstance(value, int) else value) for value in table[column]]
    return table.remove_columns(column).add_column(column, values).cast_column(column, new)


def _file(name: str, split: str) -> str:
    path = Path(name)
    if path.is_dir():
        files = [f for f in sorted(path.iterdir()) if f.suffix in _READERS and f.stem.startswith(_SPLITS[split])]
        return str(files[0]) if files else f"{name} ({split})"
    return name if path.is_file() else f"{name} ({split})"
