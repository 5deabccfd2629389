"""Rows with the inputs of teachers beside those of the student."""

import torch
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer

from distill.data.teachers.own_columns import (
    has_same_tokens,
    longest_row,
    student_rows,
    teacher_rows,
    with_own_tokens,
    without_teacher,
)
from students.recording.own_tokens import OwnTokens
from students.tokenizer.encoder import TextEncoder
from tests.helpers.students.other_tokenizers import save_byte_level

COLUMNS = {
    "input_ids": [[1, 2], [3]],
    "token_type_ids": [[0, 0], [0]],
    "labels": [0, 1],
    "a/input_ids": [[7, 8, 9], [6]],
    "a/attention_mask": [[1, 1, 1], [1]],
    "b/input_ids": [[1, 2], [3]],
    "b/attention_mask": [[1, 1], [1]],
}


def rows(**changes: list) -> DatasetDict:
    return DatasetDict({"train": Dataset.from_dict(COLUMNS | changes)})


def test_encodings_are_the_same_if_ids_and_types_are():
    assert has_same_tokens(rows(), "b"), "types of 0 are what a model without them reads"
    assert not has_same_tokens(rows(), "a")
    assert not has_same_tokens(rows(token_type_ids=[[0, 1], [0]]), "b")
    assert not has_same_tokens(rows(**{"b/token_type_ids": [[0, 1], [0]]}), "b")


def test_the_second_text_of_a_pair_is_compared_too():
    second = {"second_input_ids": [[4], [5, 6]], "b/second_input_ids": [[4], [5, 6]]}
    assert has_same_tokens(rows(**second), "b")
    assert not has_same_tokens(rows(**second | {"b/second_input_ids": [[4], [5, 7]]}), "b")


def test_rows_of_the_student_and_of_each_teacher():
    given = rows()
    assert student_rows(given["train"]).column_names == ["input_ids", "token_type_ids", "labels"]
    assert teacher_rows(given["train"], None).column_names == ["input_ids", "token_type_ids", "labels"]
    read = teacher_rows(given["train"], OwnTokens("a", 0))
    assert sorted(read.column_names) == ["attention_mask", "input_ids", "labels"]
    assert read["input_ids"][:] == COLUMNS["a/input_ids"]
    assert longest_row(given, "a") == 3 and longest_row(given, "b") == 2
    assert not any(name.startswith("a/") for name in without_teacher(given, "a")["train"].column_names)


def test_a_row_that_did_not_change_keeps_its_encoding(tokenizer, tmp_path):
    save_byte_level(tmp_path)
    byte_level = AutoTokenizer.from_pretrained(tmp_path)
    encoders = {"a": TextEncoder(byte_level, 50)}
    row = {"input_ids": tokenizer("a Warm film")["input_ids"], "labels": 1, "a/input_ids": [1, 2, 3]}
    generator = torch.Generator()
    (unchanged,) = with_own_tokens([lambda row, _: row], encoders, tokenizer, 1)
    assert unchanged(row, generator) == row

    def shorter(row: dict, generator: torch.Generator) -> dict:
        assert "a/input_ids" not in row, "changes are of lists as long as the student's"
        return row | {"input_ids": row["input_ids"][:3]}

    (changed,) = with_own_tokens([shorter], encoders, tokenizer, 1)
    assert byte_level.decode(changed(row, generator)["a/input_ids"]) == "a warm"
    assert with_own_tokens([shorter], {}, tokenizer, 1) == [shorter]
