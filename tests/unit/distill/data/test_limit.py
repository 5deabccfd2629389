"""What rows lose at max_length is told with its counts, and refused where nothing is left."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from distill.data import Truncation, prepare_data
from distill.tasks.kinds.language.sequences import Seq2Seq
from distill.tasks.kinds.spans import QuestionAnswering
from distill.tasks.kinds.texts import Classification
from distill.tasks.kinds.tokens import TokenClassification
from distill.tasks.task import Task
from tests.helpers.tables import refused, write
from tests.helpers.worlds import save_data, save_teacher

LONG = "the good film and " * 10 + "one warm ending"
NEAR = "one warm ending of the good film"


def question(context: str, answer: str = "one warm ending") -> dict:
    answers = {"text": [answer], "answer_start": [context.index(answer)]}
    return {"question": "is it this?", "context": context, "answers": answers}


def tagged(words: int, last: int = 0) -> dict:
    return {"tokens": ["film"] * words, "ner_tags": ["O"] * (words - 1) + [["O", "B-x"][last]]}


def prepared(
    folder: Path, tokenizer: PreTrainedTokenizerBase, task: type, train: list, held: list, **given: object
) -> Task:
    """The task after it has read both parts."""
    for split, rows in (("train", train), ("validation", held)):
        write(folder / f"{split}.jsonl", rows)
    made = task(data=str(folder), **given)
    prepare_data(made, tokenizer)
    return made


def test_answers_beyond_the_limit_are_counted(tokenizer, tmp_path):
    far, near = question(LONG), question(NEAR)
    length = len(tokenizer("is it this?", LONG)["input_ids"])
    task = prepared(tmp_path, tokenizer, QuestionAnswering, [far, near, far], [near], max_length=20)
    full_length = 2 * length + len(tokenizer("is it this?", NEAR)["input_ids"])
    assert task.facts.truncation["train"] == Truncation(
        rows=2, tokens=2 * (length - 20), of_rows=3, of_tokens=full_length
    )
    assert task.facts.warnings == ["2 of 3 training answers lie beyond max_length: 20, and are not learnt"]
    task = prepared(tmp_path, tokenizer, QuestionAnswering, [near, near], [far, near], max_length=20)
    assert task.facts.warnings[-1] == "1 of 2 validation answers lie beyond max_length: 20, and count as not answered"


@pytest.mark.parametrize(("split", "purpose"), [("training", "train on"), ("validation", "evaluate on")])
def test_no_answer_within_the_limit_is_refused(split, purpose, tokenizer, tmp_path):
    rows = {"training": [question(NEAR)] * 3, "validation": [question(NEAR)] * 3} | {split: [question(LONG)] * 3}
    for name, file in (("training", "train"), ("validation", "validation")):
        write(tmp_path / f"{file}.jsonl", rows[name])
    assert refused(QuestionAnswering(data=str(tmp_path), max_length=20), tokenizer) == (
        f"max_length: 3 of 3 {split} answers lie beyond 20 tokens, so there is nothing to {purpose}"
    )


def test_an_answer_that_no_token_holds_is_counted_and_refused(tokenizer, tmp_path):
    gone = question("a \u200b film", "\u200b")  # the tokenizer drops it
    task = prepared(tmp_path, tokenizer, QuestionAnswering, [question(NEAR), gone], [question(NEAR)])
    assert task.facts.warnings == ["1 of 2 training rows have none of their answers in a token"]
    write(tmp_path / "train.jsonl", [gone] * 2)
    assert refused(QuestionAnswering(data=str(tmp_path)), tokenizer) == (
        "max_length: no token belongs to any of the training answers, so there is nothing to train on"
    )


def test_tags_beyond_the_limit_are_counted(tokenizer, tmp_path):
    rows = [tagged(10, 1), tagged(4, 1)]
    task = prepared(tmp_path, tokenizer, TokenClassification, rows, rows[1:], max_length=8)
    assert task.facts.truncation["train"] == Truncation(rows=1, tokens=4, of_rows=2, of_tokens=18)
    assert "4 of 14 training tags lie beyond max_length: 8, and are not learnt" in task.facts.warnings


def test_targets_beyond_the_limit_are_counted_and_keep_their_end(tmp_path):
    save_data("seq2seq", tmp_path)
    save_teacher("seq2seq", tmp_path / "teacher", layers=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "teacher")
    for file in tmp_path.glob("*.parquet"):
        file.unlink()
    rows = [{"left": "film", "right": "film plot music " * 2}, {"left": "film", "right": "film plot"}]
    task = prepared(tmp_path, tokenizer, Seq2Seq, rows, rows[1:], source="left", target="right", max_length=5)
    lengths = [len(tokenizer(row["right"])["input_ids"]) for row in rows]
    assert lengths[1] < 5 < lengths[0]
    assert task.facts.warnings == [
        f"{lengths[0] - 5} of {sum(lengths)} training target tokens lie beyond max_length: 5, and are not learnt"
    ]
    labels = prepare_data(task, tokenizer)["train"]["labels"]
    assert all(ids[-1] == task.end for ids in labels)


def test_texts_beyond_the_limit_are_counted(tokenizer, tmp_path):
    rows = [{"text": "a film " * 10, "label": "x"}, {"text": "a plot", "label": "y"}]
    task = prepared(tmp_path, tokenizer, Classification, rows, rows, max_length=6)
    cut = Truncation(rows=1, tokens=16, of_rows=2, of_tokens=26)
    assert task.facts.truncation == {"train": cut, "validation": cut}
    task = prepared(tmp_path, tokenizer, Classification, rows, rows, max_length=22)
    assert task.facts.truncation == {}, "there is room for them"
