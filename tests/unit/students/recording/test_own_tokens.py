"""The inputs of a teacher in a batch of the student."""

import pytest
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


TAGGED = BATCH | {
    "labels": torch.tensor([[-100, 1, 0]]),
    "large/labels": torch.tensor([[1, 0, 0, 0]]),  # padding is written as zeros
}


def test_labels_of_words_are_the_teachers_and_its_logits_go_to_the_students():
    own = OwnTokens("large", pad_token_id=9)
    assert own.read(TAGGED)["labels"].tolist() == [[1, 0, -100, -100]]
    logits = torch.arange(8.0).view(1, 4, 2)
    aligned = own.align(logits, TAGGED)
    assert aligned.tolist() == [[[0.0, 0.0], [0.0, 1.0], [2.0, 3.0]]]
    read = own.read(TAGGED)
    assert torch.equal(own.align(logits, read)[:, :2], logits[:, :2]), "at its own tokens they stay"
    assert own.align(logits, BATCH) is logits, "outputs for whole texts have no place"


def test_labels_of_different_words_are_an_error():
    batch = TAGGED | {"labels": torch.tensor([[-100, 1, -100]])}
    with pytest.raises(ValueError, match="large and the student have labels of different words"):
        OwnTokens("large", 9).align(torch.zeros(1, 4, 2), batch)
