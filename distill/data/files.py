"""Read a hub data set, a folder or a file as tables that know the location of each row."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from pyarrow import ArrowException

from distill.data.delimited import read_delimited
from distill.data.json_rows import read_json
from distill.data.table import FileTable, Split
from distill.tasks.columns import list_names
from distill.tasks.facts import FileFacts
from students.loading.hub import loading

SUFFIXES = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".arrow")
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev", "eval"), "test": ("test",)}
_NO_ROWS = {
    "train": "training rows",
    "validation": "rows; remove it, and a tenth of training is held out",
    "test": "rows; remove it",
}
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})").fullmatch


def read(name: str) -> DatasetDict:
    """Return the readable rows of ``read_splits``, without locations."""
    return DatasetDict({split: table.rows for split, table in read_splits(name).items()})


def read_splits(name: str) -> dict[str, Split]:
    """Read the ``train`` split of a hub data set, a folder or a file, and ``validation`` and ``test`` if there are any.

    Raises:
        ValueError: if it does not exist, or has no training rows.
    """
    try:
        splits = _splits(name)
    except OSError as error:
        raise ValueError(f"data: {name!r} cannot be read: {error.strerror or _reason(error)}") from error
    for split, table in splits.items():
        problems = sum(len(file.problems) for file in table.files)
        if split == "train" and len(table.rows) == 1 and not problems:
            raise ValueError(f"data: {name!r} has one training row; there must be more")
        if not len(table.rows) and not problems:
            path = table.files[0].facts.path
            raise ValueError(f"data: {path!r} has no {_NO_ROWS[split]}")
    return splits


def _splits(name: str) -> dict[str, Split]:
    path = Path(name)
    if path.is_file():
        return {"train": Split([read_file(path, "train")])}
    if path.is_dir():
        return _read_folder(path)
    if "\0" not in name and (path.is_symlink() or path.exists()):
        kind = "a link to nothing or to itself" if path.is_symlink() else "a pipe, a socket or a device"
        raise ValueError(f"data: {name!r} is {kind}, not a file or folder")
    looks_local = name.startswith((".", "/", "~")) or path.suffix in SUFFIXES or path.parent.is_dir()
    if looks_local or name.count("/") not in (1, 2):
        raise ValueError(
            f"data: there is no file or folder {name!r}; a hub name is 'namespace/name' or 'namespace/name/config'"
        )
    repository, config = "/".join(name.split("/")[:2]), [*name.split("/"), None][2]
    try:
        with loading(repository):
            dataset = load_dataset(repository, config)
    except ValueError as error:
        raise ValueError(f"data: {error}") from error
    return _select_splits(name, dataset)


def _select_splits(name: str, dataset: DatasetDict) -> dict[str, Split]:
    """Return the training and validation split of a data set."""
    selected = {split: next((key for key in dataset if key.startswith(keys)), None) for split, keys in SPLITS.items()}
    if not selected["train"] or not len(dataset[selected["train"]]):
        raise ValueError(f"data: {name!r} has no training rows (splits: {', '.join(dataset)})")
    tables = {s: _table(dataset[key], f"{name} ({key})", s, "dataset") for s, key in selected.items() if key}
    if unread := [key for key in dataset if key not in selected.values()]:
        tables["train"].facts.dialect.append(f"not read: {', '.join(unread)}")
    return {split: Split([table]) for split, table in tables.items()}


def _table(rows: Dataset, path: str, split: str, format: str) -> FileTable:
    return FileTable(rows, FileFacts(path, split, format, rows_read=len(rows)))


def read_file(path: Path, split: str) -> FileTable:
    if path.suffix not in SUFFIXES:
        unpack = "; unpack it first" if path.suffix in (".gz", ".zip", ".zst", ".bz2", ".xz") else ""
        raise ValueError(f"data: {path} is not one of {', '.join(SUFFIXES)}{unpack}")
    if not path.is_file():
        raise ValueError(f"data: {path} is not a file")
    if path.suffix in (".parquet", ".arrow"):
        return _table(_load(path), str(path), split, path.suffix[1:])
    reader = read_delimited if path.suffix in (".csv", ".tsv") else read_json
    try:
        return reader(path, split)
    except ValueError as error:
        at_line = str(error).startswith("line ")
        raise ValueError(f"data: {path} {error}" if at_line else f"data: {path} cannot be read: {error}") from error
    except OSError as error:
        raise ValueError(f"data: {path} cannot be read: {error.strerror or error}") from error


def _load(path: Path) -> Dataset:
    try:
        return load_dataset(path.suffix[1:], data_files=str(path), split="train")
    except (DatasetGenerationError, ValueError, StopIteration, ArrowException) as error:
        raise ValueError(f"data: {path} cannot be read: {_reason(error.__cause__ or error)}") from error


def _reason(error: BaseException) -> str:
    """Return the message of an error; for a full disk it names the cache folder of ``datasets``."""
    text = str(error) or "it is empty"
    if "Not enough disk space" in text or os.strerror(errno.ENOSPC) in text:
        cache = datasets.config.HF_DATASETS_CACHE
        return f"the disk of the data set cache is full ({cache}); set HF_HOME to another folder"
    return text


def _read_folder(path: Path) -> dict[str, Split]:
    try:
        if (path / "dataset_dict.json").exists():
            return _select_splits(str(path), load_from_disk(str(path)))
        if (path / "state.json").exists():
            return {"train": Split([_table(load_from_disk(str(path)), str(path), "train", "arrow")])}
    except (OSError, ValueError, KeyError, TypeError, ArrowException) as error:
        if str(error).startswith("data: "):
            raise
        raise ValueError(f"data: the data set in {str(path)!r} cannot be loaded: {error}") from error
    files = {split: _files(path, names) for split, names in SPLITS.items()}
    if not files["train"]:
        expected = ", ".join(f"train{suffix}" for suffix in SUFFIXES)
        raise ValueError(f"data: the folder {str(path)!r} has no train file ({expected})")
    tables = {split: [read_file(file, split) for file in paths] for split, paths in files.items() if paths}
    used = [file for paths in files.values() for file in paths]
    if unread := [file.name for file in sorted(path.iterdir()) if file.suffix in SUFFIXES and file not in used]:
        tables["train"][0].facts.dialect.append(f"not read here: {list_names(unread)}")
    return {split: _as_split(file_tables) for split, file_tables in tables.items()}


def _files(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the file of a split, or its shards; exact names are preferred to names with that prefix.

    Raises:
        ValueError: if several files are ambiguous, or a shard is missing.
    """
    tables = [file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES and file.stem.startswith(names)]
    files = [file for file in tables if file.stem in names] or tables
    shards = [_SHARD(file.stem) for file in files]
    series = {(shard[1], shard[3], file.suffix) for shard, file in zip(shards, files, strict=True) if shard}
    if len(series) == 1 and all(shards):
        count = int(shards[0][3])
        if missing := set(range(count)) - {int(shard[2]) for shard in shards}:
            first = f"{shards[0][1]}-{min(missing):05}-of-{count:05}{files[0].suffix}"
            raise ValueError(
                f"data: the folder {str(folder)!r} lacks {len(missing)} of {count} shards, such as {first}"
            )
        return files
    if len(files) > 1:
        present = ", ".join(file.name for file in files)
        raise ValueError(f"data: the folder {str(folder)!r} has {present}; keep one, named {names[0]}{files[0].suffix}")
    return files


def _as_split(files: list[FileTable]) -> Split:
    try:
        return Split(files)
    except (ValueError, TypeError, ArrowException) as error:
        paths = ", ".join(file.facts.path for file in files)
        raise ValueError(f"data: {paths} have columns of different types: {error}") from error
