"""The second text of a row takes the place of the first, for the student and for a teacher with its own tokens."""

import torch

from students.recording.own_tokens import OwnTokens
from students.recording.second_text import second_text

PAIR = {
    "input_ids": torch.tensor([[1, 2]]),
    "attention_mask": torch.tensor([[1, 1]]),
    "token_type_ids": torch.tensor([[0, 0]]),
    "second_input_ids": torch.tensor([[3, 4, 5]]),
    "second_attention_mask": torch.tensor([[1, 1, 1]]),
    "labels": torch.tensor([0.5]),
}


def test_a_row_of_one_text_has_no_second():
    assert second_text({"input_ids": torch.tensor([[1]])}) is None


def test_all_inputs_are_those_of_the_second_text():
    batch = second_text(PAIR)
    assert batch["input_ids"].tolist() == [[3, 4, 5]] and batch["labels"].tolist() == [0.5]
    assert "token_type_ids" not in batch  # those of the first text would be of another length


def test_a_teacher_reads_both_texts_in_its_own_tokens():
    own = {
        "teacher/input_ids": torch.tensor([[7, 8, 9]]),
        "teacher/attention_mask": torch.tensor([[1, 1, 0]]),
        "teacher/second_input_ids": torch.tensor([[6, 9]]),
        "teacher/second_attention_mask": torch.tensor([[1, 0]]),
    }
    read = OwnTokens("teacher", pad_token_id=99).read(PAIR | own)
    assert read["input_ids"].tolist() == [[7, 8, 99]] and "token_type_ids" not in read
    assert second_text(read)["input_ids"].tolist() == [[6, 99]]
    again = OwnTokens("teacher", pad_token_id=99).read(read)
    assert second_text(again)["input_ids"].tolist() == [[6, 99]]
