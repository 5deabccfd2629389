"""Prompts and words that a judge cannot use are refused, with what is wrong."""

import pytest

from distill.tasks.classes import Classes
from distill.teachers.judges.prompt import Prompt, check_words, words_by_class


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("is it good?", r"prompt: has no \{text\}"),
        ("{text", "prompt: .*written twice"),
        ("{text} }", "prompt: .*written twice"),
    ],
)
def test_templates(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prompt(template)


def test_fields_are_columns() -> None:
    Prompt("{text} {{x}}").check(["sentence"])
    Prompt("{premise} {hypothesis}").check(["premise", "hypothesis"])
    with pytest.raises(ValueError, match="prompt: there is no text 'sentense'; did you mean 'sentence'"):
        Prompt("{sentense}").check(["sentence"])
    with pytest.raises(ValueError, match=r"prompt: the rows are pairs, and \{hypothesis\} is not in it"):
        Prompt("{premise}").check(["premise", "hypothesis"])


def test_a_prompt_is_filled() -> None:
    prompt = Prompt("{{a}} {text}: ")
    assert prompt.fill({"sentence": "b {c}"}) == "{a} b {c}:" and prompt.ending == ":"
    assert Prompt("x {text}").ending == "" and Prompt("{text}\n").ending == "\n"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"0": "bad"}, "write the word of each class"),
        ({"0": "bad", "1": " "}, "the word of '1' is empty"),
        ({"0": "Good", "1": "good "}, "'good' is the word of two classes"),
    ],
)
def test_words(labels: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_words(labels)


def test_words_follow_the_classes() -> None:
    classes = Classes(["negative", "positive"], [0, 1], {"0": 0, "1": 1})
    assert words_by_class({"1": "good", "0": "bad"}, classes) == ["bad", "good"]
    assert words_by_class({"positive": "good", "negative": "bad"}, classes) == ["bad", "good"]
    with pytest.raises(ValueError, match="labels: there is no label 'positiv'; did you mean 'positive'"):
        words_by_class({"0": "bad", "positiv": "good"}, classes)
    with pytest.raises(ValueError, match="labels: there is no word for positive"):
        words_by_class({"0": "bad"}, classes)
    with pytest.raises(ValueError, match="'bad' and 'worse' are of one class"):
        words_by_class({"0": "bad", "negative": "worse"}, classes)
