"""From a hub name, a folder or a file to tables that know where their rows stand."""

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
from distill.tasks.columns import listed
from distill.tasks.facts import FileFacts
from students.loading.hub import loading

SUFFIXES = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".arrow")
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev", "eval")}
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})").fullmatch


def read(name: str) -> DatasetDict:
    """The rows alone of ``splits_of``, those that could be read."""
    return DatasetDict({split: table.rows for split, table in splits_of(name).items()})


def splits_of(name: str) -> dict[str, Split]:
    """The ``train`` and, where they stand apart, ``validation`` rows of a hub name, a folder or a file.

    Raises:
        ValueError: if there is no such thing here, or it holds no rows to train on.
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
            where = table.files[0].facts.path
            rows = "training rows" if split == "train" else "rows; leave it away, and a tenth of training is held out"
            raise ValueError(f"data: {where!r} has no {rows}")
    return splits


def _splits(name: str) -> dict[str, Split]:
    path = Path(name)
    if path.is_file():
        return {"train": Split([_read_file(path, "train")])}
    if path.is_dir():
        return _read_folder(path)
    if "\0" not in name and (path.is_symlink() or path.exists()):
        what = "a link to nothing or to itself" if path.is_symlink() else "a pipe, a socket or a device"
        raise ValueError(f"data: {name!r} is {what}, not a file or folder")
    looks_local = name.startswith((".", "/", "~")) or path.suffix in SUFFIXES or path.parent.is_dir()
    if looks_local or name.count("/") not in (1, 2):
        raise ValueError(
            f"data: there is no file or folder {name!r}; a hub name is 'namespace/name' or 'namespace/name/config'"
        )
    repository, config = "/".join(name.split("/")[:2]), [*name.split("/"), None][2]
    try:
        with loading(repository):
            found = load_dataset(repository, config)
    except ValueError as error:
        raise ValueError(f"data: {error}") from error
    return _chosen(name, found)


def _chosen(name: str, found: DatasetDict) -> dict[str, Split]:
    """The splits of a data set that are used."""
    chosen = {split: next((key for key in found if key.startswith(keys)), None) for split, keys in SPLITS.items()}
    if not chosen["train"] or not len(found[chosen["train"]]):
        raise ValueError(f"data: {name!r} has no training rows (splits: {', '.join(found)})")
    tables = {s: _table(found[key], f"{name} ({key})", s, "dataset") for s, key in chosen.items() if key}
    if unread := [key for key in found if key not in chosen.values()]:
        tables["train"].facts.dialect.append(f"not read: {', '.join(unread)}")
    return {split: Split([table]) for split, table in tables.items()}


def _table(rows: Dataset, path: str, split: str, kind: str) -> FileTable:
    return FileTable(rows, FileFacts(path, split, kind, rows_read=len(rows)))


def _read_file(path: Path, split: str) -> FileTable:
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
    """The error in words; of a full disk with the folder in which datasets keeps its tables."""
    text = str(error) or "it is empty"
    if "Not enough disk space" in text or os.strerror(errno.ENOSPC) in text:
        return f"there is no room for its table in {datasets.config.HF_DATASETS_CACHE}; set HF_HOME to another folder"
    return text


def _read_folder(path: Path) -> dict[str, Split]:
    try:
        if (path / "dataset_dict.json").exists():
            return _chosen(str(path), load_from_disk(str(path)))
        if (path / "state.json").exists():
            return {"train": Split([_table(load_from_disk(str(path)), str(path), "train", "arrow")])}
    except (OSError, ValueError, KeyError, TypeError, ArrowException) as error:
        if str(error).startswith("data: "):
            raise
        raise ValueError(f"data: the data set in {str(path)!r} cannot be loaded: {error}") from error
    files = {split: _files(path, names) for split, names in SPLITS.items()}
    if not files["train"]:
        wanted = ", ".join(f"train{suffix}" for suffix in SUFFIXES)
        raise ValueError(f"data: the folder {str(path)!r} has no train file ({wanted})")
    tables = {split: [_read_file(file, split) for file in found] for split, found in files.items() if found}
    read = [file for found in files.values() for file in found]
    if unread := [file.name for file in sorted(path.iterdir()) if file.suffix in SUFFIXES and file not in read]:
        tables["train"][0].facts.dialect.append(f"not read here: {listed(unread)}")
    return {split: _joined(found) for split, found in tables.items()}


def _files(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The file of a split, or its shards: one named so exactly comes before one whose name only begins so.

    Raises:
        ValueError: if there are several and it is not clear which is meant, or a shard is missing.
    """
    found = [file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES and file.stem.startswith(names)]
    exact = [file for file in found if file.stem in names]
    chosen = exact or found
    shards = [_SHARD(file.stem) for file in chosen]
    series = {(shard[1], shard[3], file.suffix) for shard, file in zip(shards, chosen, strict=True) if shard}
    if len(series) == 1 and all(shards):
        count = int(shards[0][3])
        if missing := set(range(count)) - {int(shard[2]) for shard in shards}:
            lost = f"{shards[0][1]}-{min(missing):05}-of-{count:05}{chosen[0].suffix}"
            raise ValueError(f"data: the folder {str(folder)!r} lacks {len(missing)} of {count} shards, such as {lost}")
        return chosen
    if len(chosen) > 1:
        named = ", ".join(file.name for file in chosen)
        raise ValueError(f"data: the folder {str(folder)!r} has {named}; leave one, named {names[0]}{chosen[0].suffix}")
    return chosen


def _joined(files: list[FileTable]) -> Split:
    try:
        return Split(files)
    except (ValueError, TypeError, ArrowException) as error:
        named = ", ".join(file.facts.path for file in files)
        raise ValueError(f"data: {named} have columns of different types: {error}") from error
