"""Rows that cannot be used are refused by file and line, or by file and row where it has no lines."""

from pathlib import Path

import pytest
from datasets import ClassLabel, Features, Value
from transformers import PreTrainedTokenizerBase

from distill.tasks.kinds.texts import Classification, Regression
from tests.helpers.tables import NAMES, ROWS, ready, refused, write

BAD = {
    "a missing label": ({"text": "one", "label": None}, "'label' is missing"),
    "an empty text": ({"text": "", "label": 1}, "'text' is empty"),
    "a blank text": ({"text": "  ", "label": 1}, "'text' is empty"),
    "a missing text": ({"text": None, "label": 1}, "'text' is empty"),
    "a class that is none": ({"text": "one", "label": -1}, "'label' is -1, not one of LABEL_0, LABEL_1"),
}


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(("row", "message"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_bad_row_is_named(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, kind: str, row: dict, message: str, split: str
) -> None:
    for name in ("train", "validation"):
        write(tmp_path / f"{name}.{kind}", [*ROWS[:2], row, ROWS[2]] if name == split else ROWS)
    task = Classification(data=str(tmp_path), max_train_samples=2)
    place = {"csv": "line 4", "parquet": "row 3", "jsonl": "line 3"}[kind]
    assert refused(task, tokenizer).removeprefix(f"data: {tmp_path}/{split}.{kind} {place}: ") in (
        message,
        message.replace("-1", "'-1'"),
        message + "; a negative number is a class only where task.labels names it",
    )


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_a_class_that_was_not_trained_is_named(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, kind: str) -> None:
    write(tmp_path / f"train.{kind}", [{"text": "one", "label": label} for label in ("ham", "spam", "ham")])
    write(
        tmp_path / f"validation.{kind}",
        [{"text": "one", "label": label} for label in ("ham", "span", "spam", "eggs")],
    )
    first, second = {"csv": ("line 3", "line 5"), "parquet": ("row 2", "row 4"), "jsonl": ("line 2", "line 4")}[kind]
    message = (
        f"data: {tmp_path}/validation.{kind} {first}: 'label' is 'span', not one of ham, spam; "
        f"{second}: 'label' is 'eggs', not one of ham, spam"
    )
    assert refused(Classification(data=str(tmp_path)), tokenizer) == message


def test_rows_of_a_single_file_are_counted_as_they_stand_there(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = [{"text": f"film {i}", "label": i % 2} for i in range(60)]
    rows[41]["text"] = ""
    file = write(tmp_path / "all.csv", rows)
    assert (
        refused(Classification(data=file, max_train_samples=3), tokenizer) == f"data: {file} line 43: 'text' is empty"
    )


def test_wrong_types_are_named(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    numbers = write(tmp_path / "numbers.csv", [{"text": 3, "label": 0}, {"text": 4, "label": 1}])
    assert refused(Classification(data=numbers, text="text"), tokenizer).startswith(
        f"data: {numbers} line 2: 'text' is 3, not a text but a whole number, as in all rows"
    )
    real = write(tmp_path / "real.parquet", [{"text": "one", "label": 0.5}, {"text": "this", "label": 1.5}])
    assert "row 1: 'label' is 0.5; a class is a whole number or a text" in refused(Classification(data=real), tokenizer)
    words = write(tmp_path / "words.csv", [{"text": "one", "label": "1.5"}, {"text": "this", "label": "much"}])
    assert refused(Regression(data=words), tokenizer).endswith("line 3: 'label' is 'much', not a number")
    infinite = write(
        tmp_path / "infinite.parquet",
        [{"text": "one", "label": 1.5}, {"text": "this", "label": float("inf")}],
    )
    assert refused(Regression(data=infinite), tokenizer).endswith("row 2: 'label' is inf, not a number")


def test_words_that_csv_readers_take_for_nothing_are_words(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    (tmp_path / "x.csv").write_text("text,label\nnull,None\nNA,other\nnan,None\n")
    task, rows = ready(tmp_path / "x.csv", tokenizer)
    assert task.classes.names == ["None", "other"]
    assert (len(rows["train"]), len(rows["validation"])) == (2, 1)
    assert task.validation["text"][0] in ("NA", "nan", "null")


def test_one_number_for_one_class_in_both_files(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    write(
        tmp_path / "train.parquet",
        ROWS,
        Features({"text": Value("string"), "label": ClassLabel(names=NAMES)}),
    )
    write(
        tmp_path / "validation.parquet",
        ROWS,
        Features({"text": Value("string"), "label": ClassLabel(names=NAMES[::-1])}),
    )
    assert "the labels are ['negative', 'positive'] for training, ['positive', 'negative'] for validation" in refused(
        Classification(data=str(tmp_path)), tokenizer
    )
    write(tmp_path / "train.parquet", [{"text": "one", "label": word} for word in NAMES])
    write(tmp_path / "validation.parquet", ROWS)
    assert "validation.parquet row 1, 3: 'label' is 0, not one of negative, positive; row 2, 4: 'label'" in refused(
        Classification(data=str(tmp_path)), tokenizer
    )
