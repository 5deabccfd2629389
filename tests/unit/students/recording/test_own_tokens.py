"""The inputs of a teacher in a batch of the student."""

import torch

from students.recording.own_tokens import OwnTokens, is_own

BATCH = {
    "input_ids": torch.tensor([[2, 7, 3]]),
    "attention_mask": torch.ones(1, 3, dtype=torch.long),
    "token_type_ids": torch.zeros(1, 3, dtype=torch.long),
    "labels": torch.tensor([1]),
    "task": torch.tensor([0]),
    "large/input_ids": torch.tensor([[5, 6, 0, 0]]),
    "large/attention_mask": torch.tensor([[1, 1, 0, 0]]),
    "other/input_ids": torch.tensor([[1]]),
}


def test_the_teachers_inputs_take_the_place_of_all_of_the_students():
    own = OwnTokens("large", pad_token_id=9)
    read = own.read(BATCH)
    assert read["input_ids"].tolist() == [[5, 6, 9, 9]], "padding is the teacher's"
    assert torch.equal(read["attention_mask"], BATCH["large/attention_mask"])
    assert "token_type_ids" not in read, "its tokenizer gives none"
    assert read["labels"] is BATCH["labels"] and read["task"] is BATCH["task"]
    assert BATCH["input_ids"].tolist() == [[2, 7, 3]]


def test_reading_twice_is_reading_once():
    own = OwnTokens("large", pad_token_id=9)
    once, twice = own.read(BATCH), own.read(own.read(BATCH))
    assert once.keys() == twice.keys() and all(torch.equal(once[name], twice[name]) for name in once)


def test_token_types_are_padded():
    batch = BATCH | {"large/token_type_ids": torch.tensor([[0, 1, 0, 0]])}
    assert OwnTokens("large", 9, pad_token_type_id=3).read(batch)["token_type_ids"].tolist() == [[0, 1, 3, 3]]


def test_names():
    assert OwnTokens("large", 0).key("input_ids") == "large/input_ids"
    assert is_own("large/input_ids") and not is_own("input_ids")
