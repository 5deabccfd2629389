"""Rows out of every kind of file: splits, texts, pairs, their length and order."""

from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from transformers import PreTrainedTokenizerBase

from distill.data import read
from distill.tasks.kinds.texts import Classification
from tests.helpers.tables import NAMES, ROWS, ready, refused, texts_of, write

# Where the rows come from


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "json", "jsonl", "arrow"])
def test_a_folder_of_files(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, kind: str) -> None:
    write(tmp_path / f"train.{kind}", ROWS)
    write(tmp_path / f"validation.{kind}", ROWS[:2])
    task, rows = ready(tmp_path, tokenizer)
    assert (task.columns, task.classes.names) == (["text", "label"], ["LABEL_0", "LABEL_1"])
    assert texts_of(rows["train"], tokenizer) == {
        "a good film": 0,
        "a bad film": 1,
        "a warm film": 0,
        "a dull film": 1,
    }
    assert texts_of(rows["validation"], tokenizer) == {"a good film": 0, "a bad film": 1}
    assert rows["train"].column_names == ["input_ids", "token_type_ids", "attention_mask", "labels", "length"]
    assert rows["validation"].column_names == [*rows["train"].column_names, "row"]
    assert task.validation["text"][0] == "a good film"


@pytest.mark.parametrize("name", ["dev", "valid", "validation_matched", "eval-0"])
def test_names_of_validation_files(tmp_path: Path, name: str) -> None:
    write(tmp_path / "train.csv", ROWS)
    write(tmp_path / f"{name}.csv", ROWS[:3])
    assert {split: len(table) for split, table in read(str(tmp_path)).items()} == {
        "train": 4,
        "validation": 3,
    }


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_of_a_single_file_a_tenth_is_kept_for_validation(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, kind: str
) -> None:
    rows = [{"text": f"film {i}", "label": i % 2} for i in range(50)]
    file = write(tmp_path / f"all.{kind}", rows)
    rows = ready(file, tokenizer)[1]
    assert (len(rows["train"]), len(rows["validation"])) == (45, 5)
    train, validation = (set(texts_of(rows[split], tokenizer)) for split in ("train", "validation"))
    assert len(train | validation) == 50, "no row is lost, none is in both"
    again = ready(file, tokenizer)[1]
    assert again["validation"]["input_ids"][:] == rows["validation"]["input_ids"][:], "the same tenth every time"


def test_a_folder_of_save_to_disk(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=NAMES)})
    both = DatasetDict(
        train=Dataset.from_list(ROWS, features=features),
        validation=Dataset.from_list(ROWS[:2], features=features),
    )
    both.save_to_disk(tmp_path / "both")
    task, rows = ready(tmp_path / "both", tokenizer)
    assert task.classes.names == NAMES and (len(rows["train"]), len(rows["validation"])) == (4, 2)
    both["train"].save_to_disk(tmp_path / "one")
    task, rows = ready(tmp_path / "one", tokenizer)
    assert task.classes.names == NAMES and (len(rows["train"]), len(rows["validation"])) == (3, 1)


def test_a_file_that_is_changed_is_read_again(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    write(tmp_path / "train.csv", ROWS)
    ready(tmp_path / "train.csv", tokenizer)
    (tmp_path / "train.csv").write_text("text,label\none,1\nthis,0\n")
    assert sorted(read(str(tmp_path / "train.csv"))["train"]["text"]) == ["one", "this"]


def test_only_so_many_rows(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    write(tmp_path / "train.csv", [{"text": f"film {i}", "label": i % 2} for i in range(40)])
    write(tmp_path / "validation.csv", ROWS)
    few, more, all_ = (ready(tmp_path, tokenizer, max_train_samples=count)[1] for count in (5, 9, 999))
    assert [len(part["train"]) for part in (few, more, all_)] == [5, 9, 40]
    assert few["train"]["input_ids"][:] == more["train"]["input_ids"][:5], "the first of one shuffle"
    assert [len(part["validation"]) for part in (few, more, all_)] == [4, 4, 4]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("x.csv", "", "data: {} cannot be read: "),
        ("x.csv", "text,label\n", "data: {} cannot be read: "),
        ("x.jsonl", "", "data: {} cannot be read: "),
        ("x.csv", "text,label\ngood,1\n", "data: '{}' has one training row"),
        ("x.csv", "text,label\ngood,1\nbad,2,3\n", "data: {} line 3: 3 columns, but 2 names in the first line"),
        ("x.jsonl", "{", "data: {} line 1: not valid JSON: "),
        ("x.parquet", "PAR", "data: {} cannot be read: "),
        ("x.arrow", "ARROW", "data: {} cannot be read: "),
        ("x.txt", "good", "data: {} is not one of .parquet, .csv, .tsv, .json, .jsonl, .arrow"),
    ],
)
def test_files_that_are_no_data(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, file: str, content: str, message: str
) -> None:
    path = tmp_path / file
    path.write_text(content)
    assert refused(Classification(data=str(path)), tokenizer).startswith(message.format(path))


@pytest.mark.parametrize("name", ["data.csv", "./data", "folder/data", "word", "a/b/c/d"])
def test_names_of_nothing(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert refused(Classification(data=name), tokenizer).startswith(f"data: there is no file or folder '{name}'")


def test_a_folder_without_training_rows(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    write(tmp_path / "validation.csv", ROWS)
    assert "has no train file (train.parquet, train.csv," in refused(Classification(data=str(tmp_path)), tokenizer)
    DatasetDict(test=Dataset.from_list(ROWS)).save_to_disk(tmp_path / "saved")
    assert "has no training rows (splits: test)" in refused(Classification(data=str(tmp_path / "saved")), tokenizer)


# Columns


def test_pairs(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    file = write(
        tmp_path / "train.jsonl",
        [{"id": i, "first": "great film", "label": i % 2, "second": "a drama"} for i in range(10)],
    )
    task, rows = ready(file, tokenizer)
    assert task.texts == ["first", "second"], "the columns of texts in their order"
    assert tokenizer.decode(rows["train"][0]["input_ids"]) == "[CLS] great film [SEP] a drama [SEP]"
    assert rows["train"][0]["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    turned = ready(file, tokenizer, text=["second", "first"])[1]
    assert tokenizer.decode(turned["train"][0]["input_ids"]) == "[CLS] a drama [SEP] great film [SEP]"
    alone = ready(file, tokenizer, text="second")[1]
    assert tokenizer.decode(alone["train"][0]["input_ids"]) == "[CLS] a drama [SEP]"


def test_texts_are_cut_to_length(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    file = write(tmp_path / "train.csv", [{"text": "film " * 30, "label": i % 2} for i in range(4)])
    rows = ready(file, tokenizer, max_length=8)[1]
    assert set(rows["train"]["length"]) == {8}
    assert (
        refused(Classification(data=file, max_length=2), tokenizer)
        == "max_length: 2 leaves no room for text beside 2 special tokens"
    )


def test_columns_must_be_named_where_there_is_a_choice(tokenizer: PreTrainedTokenizerBase) -> None:
    three = Dataset.from_list([{"a": "x", "b": "y", "c": "z", "label": 0}])
    with pytest.raises(
        ValueError, match="text: name the column of the text, or the two of a pair; there are a, b, c, label"
    ):
        Classification(data="x").setup(three, tokenizer)
    task = Classification(data="x", text=["c", "a"])
    task.setup(three, tokenizer)
    assert task.columns == ["c", "a", "label"]
    with pytest.raises(ValueError, match="text: there is no column 'd'; there are a, b, c, label"):
        Classification(data="x", text="d").setup(three, tokenizer)
    with pytest.raises(ValueError, match="label: there is no column 'class'"):
        Classification(data="x", text="a", label="class").setup(three, tokenizer)


def test_both_files_have_the_columns(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    write(tmp_path / "train.csv", ROWS)
    write(tmp_path / "dev.csv", [{"sentence": "good", "label": 1}, {"sentence": "bad", "label": 0}])
    assert (
        refused(Classification(data=str(tmp_path)), tokenizer)
        == f"data: {tmp_path}/dev.csv has no column 'text'; there are sentence, label"
    )


def test_validation_is_in_the_order_of_length(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"text": "film " * length, "label": length % 4 // 2} for length in (5, 1, 9, 3)]
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "validation.csv", rows)
    task, rows = ready(tmp_path, tokenizer)
    assert rows["validation"]["length"][:] == [3, 5, 7, 11]
    texts = [task.validation[row]["text"] for row in rows["validation"]["row"]]
    assert [len(text.split()) for text in texts] == [1, 3, 5, 9], "texts and tokens go together"
    assert rows["train"]["length"][:] == [7, 3, 11, 5]
