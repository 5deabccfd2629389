"""Answers that cannot be used are refused by line, or by what they lack."""

import pytest

from distill.data import prepare_data
from distill.tasks.kinds.spans import QuestionAnswering
from tests.helpers.tables import refused, write


def answers(text: object, start: object) -> dict:
    return {"question": "is it", "context": "one film", "answers": {"text": text, "answer_start": start}}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (answers(["film"], [0]), "the answer 'film' is not at character 0"),
        (answers(["film"], [-4]), "the answer 'film' is not at character -4"),
        (answers(["film"], [99]), "the answer 'film' is not at character 99"),
        (answers([], []), "'answers' has no answer; questions without one are not supported"),
        (answers(["film"], [4, 4]), "'answers' has no answer; questions without one are not supported"),
        (answers(None, None), "'answers' has no answer; questions without one are not supported"),
        (answers([""], [4]), "'answers' has '' at 4, not a text at a character position"),
        (answers([None], [4]), "'answers' has None at 4, not a text at a character position"),
        (answers(["film"], [None]), "'answers' has 'film' at None, not a text at a character position"),
        (answers(["film"], [4]) | {"context": ""}, "'context' is empty"),
        (answers(["film"], [4]) | {"question": "  "}, "'question' is empty"),
    ],
)
def test_a_bad_row_is_named(bad, message, tokenizer, tmp_path):
    file = write(tmp_path / "all.jsonl", [answers(["film"], [4])] * 3 + [bad])
    error = refused(QuestionAnswering(data=file), tokenizer)
    assert error.startswith(f"data: {file} line 4: {message}")


def test_a_question_that_leaves_no_room_for_its_context_is_named(tokenizer, tmp_path):
    long = answers(["film"], [4]) | {"question": "film " * 13}
    for length, bad in ((16, True), (17, False)):
        task = QuestionAnswering(data=write(tmp_path / "all.jsonl", [answers(["film"], [4])] * 3 + [long] * 2))
        task.max_length = length
        if bad:
            message = "'question' has 13 tokens; max_length: 16 leaves none for 'context'"
            assert refused(task, tokenizer).endswith(f"line 4, 5: {message}")
        else:
            assert sorted(map(len, prepare_data(task, tokenizer)["train"]["input_ids"]))[-1] <= length


@pytest.mark.parametrize(
    ("all_rows", "message"),
    [
        ("film", "'answers' has no 'text' and 'answer_start'"),
        ({"text": ["film"]}, "'answers' has no 'text' and 'answer_start'"),
        ([{"text": "film", "answer_start": 4}], "'answers' has no 'text' and 'answer_start'"),
        ({"text": "film", "answer_start": 4}, "'text' and 'answer_start' of 'answers' are not lists"),
        ({"text": ["film"], "answer_start": 4}, "'text' and 'answer_start' of 'answers' are not lists"),
        ({"text": ["film"], "answer_start": ["4"]}, "'answers' has 'film' at '4', not a text at a character position"),
    ],
)
def test_answers_of_another_form_are_named(all_rows, message, tokenizer, tmp_path):
    rows = [{"question": "is it", "context": "one film", "answers": all_rows}] * 3
    file = write(tmp_path / "all.jsonl", rows)
    error = refused(QuestionAnswering(data=file), tokenizer)
    assert error.startswith(f"data: {file} line 1, 2, 3: {message}")


def test_a_missing_column_is_named(tokenizer, tmp_path):
    file = write(tmp_path / "all.jsonl", [{"question": "is it", "text": "one film"}] * 3)
    message = "data: there is no column 'context'; there are question, text"
    assert refused(QuestionAnswering(data=file), tokenizer) == message
