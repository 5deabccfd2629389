"""What is read of a file is what stands in it, whatever its dialect; and what was read can be shown."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from distill.data import Truncation, prepare_data, read
from distill.data.describe import class_warnings
from distill.tasks.columns import is_pair
from distill.tasks.kinds.language.causal import CausalLM
from distill.tasks.kinds.language.sequences import Seq2Seq
from distill.tasks.kinds.texts import Classification, Regression
from tests.helpers.tables import ready, write

QUOTES = (
    'a fine film\tpos\n" it begins well\tpos\nit is dull\tneg\nand "then" it ends "\tneg\nwarm and funny\tpos\n' * 6
)


def test_a_quote_mark_in_a_tsv_is_a_quote_mark(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    (tmp_path / "x.tsv").write_text("text\tlabel\n" + QUOTES)
    table = read(str(tmp_path / "x.tsv"))["train"]
    assert [f"{row['text']}\t{row['label']}" for row in table] == QUOTES.splitlines()
    task, rows = ready(tmp_path / "x.tsv", tokenizer)
    assert (len(rows["train"]), len(rows["validation"])) == (27, 3)
    counts = {name: sum(splits.values()) for name, splits in task.facts.classes.items()}
    assert counts == {"neg": 12, "pos": 18}


DIALECTS = {
    "semicolons": ("text;label\n{};1\nb;0\n", "utf-8", ["separated by ';'"]),
    "tabs": ("text\tlabel\n{}\t1\nb\t0\n", "utf-8", ["separated by tab"]),
    "bars": ("text|label\n{}|1\nb|0\n", "utf-8", ["separated by '|'"]),
    "a byte order mark": (
        'text,label\n"{}",1\nb,0\n',
        "utf-8-sig",
        ["separated by ','", "UTF-8 with a byte order mark"],
    ),
    "UTF-16": ('text,label\n"{}",1\nb,0\n', "utf-16", ["separated by ','", "UTF-16-LE with a byte order mark"]),
    "CRLF": ('text,label\r\n"{}",1\r\nb,0\r\n', "utf-8", ["separated by ','", "lines that end in CRLF"]),
    "CR": ('text,label\r"{}",1\rb,0\r', "utf-8", ["separated by ','", "lines that end in CR"]),
    "blank lines": ('\ntext,label\n\n"{}",1\nb,0\n\n', "utf-8", ["separated by ','", "3 blank lines skipped"]),
    "no end of the last line": ('text,label\n"{}",1\nb,0', "utf-8", ["separated by ','"]),
    "blanks around names": ('text , label\n"{}", 1\nb, 0\n', "utf-8", ["separated by ','"]),
    "a column without a name": (',text,label\n0,"{}",1\n1,b,0\n', "utf-8", ["separated by ','"]),
}


@pytest.mark.parametrize(("content", "encoding", "dialect"), DIALECTS.values(), ids=DIALECTS.keys())
def test_dialects(tmp_path: Path, tokenizer, content: str, encoding: str, dialect: list[str]) -> None:
    text = "é, a \u2028 \x85 film"  # none of which ends a line
    (tmp_path / "x.csv").write_bytes(content.format(text).encode(encoding))
    assert read(str(tmp_path / "x.csv"))["train"].to_list() == [{"text": text, "label": 1}, {"text": "b", "label": 0}]
    task, _ = ready(tmp_path / "x.csv", tokenizer)
    (file,) = task.facts.files
    assert (file.format, file.dialect, file.rows_read) == ("csv", dialect, 2)


def test_quoted_texts_may_have_anything(tmp_path: Path) -> None:
    texts = ['he said "no"', "one,\ntwo\n\nthree", "x" * 200_000, " blank ", "'single'", "NA", "null"]
    table = Dataset.from_list([{"text": text, "label": i} for i, text in enumerate(texts)])
    table.to_csv(tmp_path / "x.csv", index=False)
    assert read(str(tmp_path / "x.csv"))["train"]["text"][:] == texts


@pytest.mark.parametrize(
    ("values", "read_as"),
    [
        (["1", "-2", "+3"], [1, -2, 3]),
        (["1", "2.5", "1e3", ".5"], [1.0, 2.5, 1000.0, 0.5]),
        (["True", "false"], [True, False]),
        (["1", "", "2"], ["1", "", "2"]),
        (["NA", "null", "nan", "None"], ["NA", "null", "nan", "None"]),
        (["2024-01-01", "1"], ["2024-01-01", "1"]),
        (["12345678901234567890", "1"], [12345678901234567890.0, 1.0]),
        (["1_000", "٣"], ["1_000", "٣"]),
    ],
)
def test_types_of_columns(tmp_path: Path, values: list[str], read_as: list) -> None:
    (tmp_path / "x.csv").write_text("text,label\n" + "".join(f"a,{value}\n" for value in values))
    labels = read(str(tmp_path / "x.csv"))["train"]["label"][:]
    assert labels == read_as and [type(value) for value in labels] == [type(value) for value in read_as]


@pytest.mark.parametrize("content", ['[\n {"a": 1, "b": "x"},\n {"a": 2}]', '{"a": 1, "b": "x"}\n\n{"a": 2}\n'])
@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_json_of_both_kinds(tmp_path: Path, content: str, name: str) -> None:
    (tmp_path / name).write_text(content)
    assert read(str(tmp_path / name))["train"].to_list() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


def test_a_column_that_is_not_used_may_hold_anything(tmp_path: Path, tokenizer) -> None:
    rows = [{"text": f"film {i}", "label": i % 2, "meta": meta} for i, meta in enumerate([1, "x", {"a": [1]}, [None]])]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task, rows = ready(tmp_path / "x.jsonl", tokenizer)
    assert len(rows["train"]) + len(rows["validation"]) == 4
    assert task.facts.files[0].columns_ignored == ["meta"]


def test_shards_are_one_file(tmp_path: Path, tokenizer) -> None:
    for number, kind in enumerate(["0", "1", "0"]):
        (tmp_path / f"train-{number:05}-of-00003.csv").write_text("text,label\n" + f"film,{kind}\n" * (number + 2))
    write(tmp_path / "validation.csv", [{"text": "film", "label": 1}])
    task, rows = ready(tmp_path, tokenizer)
    assert rows["train"]["labels"][:] == [0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert [file.path for file in task.facts.files] == [
        f"{tmp_path}/train-00000-of-00003.csv to train-00002-of-00003.csv",
        f"{tmp_path}/validation.csv",
    ]


def test_the_table(tmp_path: Path, tokenizer) -> None:
    rows = [{"sentence1": f"film {i}", "sentence2": "one", "id": i, "label": ["bad", "good"][i % 2]} for i in range(40)]
    rows[3]["sentence1"] = "film " * 30
    rows[7]["label"] = "godo"
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "validation.csv", rows[2:4])
    unlabelled = write(tmp_path / "more.jsonl", [{"sentence1": "a", "sentence2": "b"}] * 5)
    task = Classification(data=str(tmp_path), max_length=16, unlabelled=unlabelled)
    prepare_data(task, tokenizer)
    assert task.facts.table_lines() == [
        f"train: {tmp_path}/train.csv (csv, separated by ',', not read here: more.jsonl): 40 rows, 40 kept",
        f"validation: {tmp_path}/validation.csv (csv, separated by ','): 2 rows, 2 kept",
        f"unlabelled: {unlabelled} (jsonl): 5 rows, 5 kept",
        "columns: sentence1 (text 1 of 2), sentence2 (text 2 of 2), label (label); ignored: id",
        "columns: sentence1 (text 1 of 2), sentence2 (text 2 of 2)",
        "class 'bad': 20 train, 1 validation",
        "class 'godo': 1 train, 0 validation",
        "class 'good': 19 train, 1 validation",
        # [CLS] film x 30 [SEP] one [SEP] is 34 tokens; the others have 6, and from film 10 on 7.
        "truncated to max_length: 1 of 40 train rows, 6.0% of their tokens",
        "truncated to max_length: 1 of 2 validation rows, 45.0% of their tokens",
        "duplicates: 2 training rows are also in validation",
        "warning: the class 'godo' has one training row; did you mean 'good'?",
    ]
    assert task.facts.truncation["train"] == Truncation(rows=1, tokens=18, of_rows=40, of_tokens=9 * 6 + 30 * 7 + 34)


def test_what_stands_beside_and_is_not_read(tmp_path: Path, tokenizer) -> None:
    rows = [{"text": f"film {i}", "label": i % 2} for i in range(4)]
    for name in ("train", "train_old", "validation", "other"):
        write(tmp_path / f"{name}.csv", rows)
    task, _ = ready(tmp_path, tokenizer)
    assert task.facts.files[0].dialect == ["separated by ','", "not read here: other.csv, train_old.csv"]
    both = DatasetDict({name: Dataset.from_list(rows) for name in ("train", "validation_matched", "validation_other")})
    both.save_to_disk(tmp_path / "saved")
    task, _ = ready(tmp_path / "saved", tokenizer)
    assert [file.path for file in task.facts.files] == [
        f"{tmp_path}/saved (train)",
        f"{tmp_path}/saved (validation_matched)",
    ]
    assert task.facts.files[0].dialect == ["not read: validation_other"]


def test_rows_that_are_held_out_or_left_out_are_counted(tmp_path: Path, tokenizer) -> None:
    file = write(tmp_path / "x.csv", [{"text": f"film {i}", "label": i % 2} for i in range(50)])
    task, _ = ready(file, tokenizer, max_train_samples=30)
    (facts,) = task.facts.files
    assert (facts.rows_read, facts.rows_kept, facts.rows_held_out, facts.rows_left_out) == (50, 30, 5, 15)
    assert facts.line().endswith("50 rows, 30 kept, 5 held out for validation, 15 left out by max_train_samples")


def test_what_a_written_text_loses_counts(tmp_path: Path, tokenizer) -> None:
    rows = [{"en": "film " * 3, "de": "one " * 9}, {"en": "film " * 9, "de": "one"}, {"en": "film", "de": "one"}]
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "validation.jsonl", rows[2:] * 2)
    task = Seq2Seq(data=str(tmp_path), source="en", target="de", max_length=6)
    prepare_data(task, tokenizer)
    assert task.facts.truncation == {"train": Truncation(rows=2, tokens=10, of_rows=3, of_tokens=5 + 11 + 11 + 3 + 6)}


def test_raw_text_loses_nothing(tmp_path: Path, tokenizer) -> None:
    task = CausalLM(data=write(tmp_path / "x.parquet", [{"text": "film " * 100}] * 20), max_length=16)
    prepare_data(task, tokenizer)
    assert task.facts.truncation == {} and task.facts.classes == {} and task.facts.duplicates == 0


def test_numbers_have_no_classes(tmp_path: Path, tokenizer) -> None:
    task = Regression(data=write(tmp_path / "x.csv", [{"text": f"film {i}", "label": i / 2} for i in range(20)]))
    prepare_data(task, tokenizer)
    assert task.facts.classes == {} and task.facts.warnings == []


@pytest.mark.parametrize(
    ("counts", "warnings"),
    [
        ({"World": 9, "Sports": 8}, []),
        ({"World": 9, "Wrold": 1}, ["the class 'Wrold' has one training row; did you mean 'World'?"]),
        ({"World": 9, "Law": 1}, ["the class 'Law' has one training row"]),
        ({"World": 9, "world ": 4}, ["the classes 'World', 'world ' differ only in case or whitespace"]),
        ({"LABEL_0": 9, "LABEL_1": 1}, ["the class 'LABEL_1' has one training row"]),
        ({"a": 3, "b": 0}, ["no training row has the class 'b'"]),
        ({"a": 1, "b": 1, "c": 1}, ["every training row has a different class"]),
    ],
)
def test_classes_that_may_be_mistakes(counts: dict[str, int], warnings: list[str]) -> None:
    assert class_warnings(counts) == warnings


@pytest.mark.parametrize(
    ("one", "other", "pair"),
    [
        ("sentence1", "sentence2", True),
        ("question2", "question1", True),
        ("text_a", "text_b", True),
        ("sentence_A", "sentence_B", True),
        ("premise", "hypothesis", True),
        ("question", "sentence", True),
        ("text", "note", False),
        ("id", "text", False),
        ("text", "text2", False),
        ("sentence1", "note2", False),
    ],
)
def test_names_of_pairs(one: str, other: str, pair: bool) -> None:
    assert is_pair(one, other) is pair
