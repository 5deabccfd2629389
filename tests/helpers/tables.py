"""Files of rows, and what becomes of them; shared by the tests of the data."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from transformers import PreTrainedTokenizerBase

from distill.data import prepare_data
from distill.tasks.kinds.texts import Classification
from distill.tasks.task import Task

ROWS = [{"text": f"a {word} film", "label": number % 2} for number, word in enumerate(["good", "bad", "warm", "dull"])]
NAMES = ["negative", "positive"]
CSV = "text,label\na good film,pos\n"
ONE = "a label is one class, a whole number or a text"


def write(path: Path, rows: list[dict], features: Features | None = None) -> str:
    """One file of rows, of the kind its name says."""
    table = Dataset.from_list(rows, features=features)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    elif path.suffix == ".arrow":
        table.save_to_disk(path.with_suffix(""))
        next(path.with_suffix("").glob("*.arrow")).rename(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return str(path)


def write_splits(folder: Path, names: Sequence[str], rows: Sequence[tuple]) -> str:
    """The same rows for training and for validation, in a folder ``data``; their values by column."""
    (folder / "data").mkdir(exist_ok=True)
    for split in ("train", "validation"):
        write(folder / "data" / f"{split}.parquet", [dict(zip(names, row, strict=True)) for row in rows])
    return str(folder / "data")


def ready(
    name: str | Path, tokenizer: PreTrainedTokenizerBase, head: list[str] | None = None, **given: object
) -> tuple:
    """The task and what ``prepare_data`` makes of its data, for classification."""
    task = Classification(data=str(name), **given)
    return task, prepare_data(task, tokenizer, {"": dict(enumerate(head))} if head else None)


def texts_of(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> dict[str, int | float]:
    """{text as the model reads it: label}."""
    return {
        tokenizer.decode(ids, skip_special_tokens=True): label
        for ids, label in zip(rows["input_ids"], rows["labels"], strict=True)
    }


def refused(task: Task, tokenizer: PreTrainedTokenizerBase) -> str:
    with pytest.raises(ValueError) as caught:
        prepare_data(task, tokenizer)
    return str(caught.value)


def labelled(tmp_path: Path, values: list, kind: str = "jsonl", names: list[str] | None = None) -> str:
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)}) if names else None
    for split in ("train", "validation"):
        write(
            tmp_path / f"{split}.{kind}",
            [{"text": f"film {i}", "label": value} for i, value in enumerate(values)],
            features,
        )
    return str(tmp_path)
