"""Values of the data and outputs of a model are joined by name, by number where there are no names, or as is said."""

import pytest
from datasets import ClassLabel, Value

from distill.tasks.classes import Classes

TEXT, NUMBER = Value("string"), Value("int64")
NLI = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]


def classes(values: list, labels: dict | None = None, names: list[str] | None = None) -> Classes:
    kind = ClassLabel(names=names) if names else TEXT if isinstance(values[0], str) else NUMBER
    return Classes.from_column(kind, values, labels or {})


JOINED = {
    "by name, whatever the case": (["entailment", "neutral", "contradiction"], {}, NLI, [2, 1, 0]),
    "by name, whatever the blanks": (["not entailment", "en tailment"], {}, ["entailment", "Not_Entailment"], [1, 0]),
    "exactly, where case alone differs": (["a", "A"], {}, ["A", "a"], [1, 0]),
    "numbers as names": ([100, 101, 102], {}, ["102", "100", "101"], [1, 2, 0]),
    "numbers as names before places": ([0, 1], {}, ["1", "0"], [1, 0]),
    "numbers by place": ([0, 1], {}, ["negative", "positive"], [0, 1]),
    "truth values by place": ([False, True], {}, ["no", "yes"], [0, 1]),
    "texts that are numbers by place": (["0", "1"], {}, ["LABEL_0", "LABEL_1"], [0, 1]),
    "texts that are the names nobody gave": (["LABEL_1", "LABEL_0"], {}, ["LABEL_0", "LABEL_1"], [1, 0]),
    "as given, by number": (["happy", "sad"], {"happy": "1", "sad": "0"}, ["LABEL_0", "LABEL_1"], [1, 0]),
    "as given, by number against names": (["happy", "sad"], {"happy": "1", "sad": "0"}, ["good", "bad"], [1, 0]),
    "as given, by name": (["happy", "sad"], {"happy": "POS", "sad": "NEG"}, ["neg", "pos"], [1, 0]),
    "as given, some classes": (["happy", "sad"], {"happy": "pos", "sad": "neg"}, ["neg", "mixed", "pos"], [2, 0]),
    "as given, two values of one class": (
        [1, 2, 3],
        {"1": "bad", "2": "bad", "3": "good"},
        ["good", "bad"],
        [1, 1, 0],
    ),
    "as given, numbers from 1": ([1, 2], {"1": "0", "2": "1"}, ["no", "yes"], [0, 1]),
    "as given, names for numbers": ([0, 1], {"0": "bad", "1": "good"}, ["LABEL_0", "LABEL_1"], [0, 1]),
    "as given, a negative number": ([-1, 1], {"-1": "bad", "1": "good"}, ["good", "bad"], [1, 0]),
    "as given, words that YAML takes for truth values": (["no", "yes"], {"no": "0", "yes": "1"}, ["a", "b"], [0, 1]),
}


@pytest.mark.parametrize(("values", "labels", "head", "outputs"), JOINED.values(), ids=JOINED.keys())
def test_a_value_stands_for_an_output(values, labels, head, outputs):
    made = classes(values, labels)
    made.follow(head)
    assert [made.label_id(value) for value in values] == outputs
    assert len(made.names) == len(head) and made.order(head) == list(range(len(head)))


def test_a_column_with_names_goes_by_them_and_by_number_where_the_model_has_none():
    names = ["entailment", "neutral", "contradiction"]
    for head, outputs in ((NLI, [2, 1, 0]), ([f"LABEL_{i}" for i in range(3)], [0, 1, 2])):
        made = classes([0, 1, 2], names=names)
        made.follow(head)
        assert [made.label_id(i) for i in range(3)] == outputs
    made = classes([0, 1, 2], {name: name for name in names}, names)
    made.follow(NLI)
    assert [made.label_id(i) for i in range(3)] == [2, 1, 0], "the values of task.labels are the column's names"
    made = classes([0, 1], {"1": "a", "0": "b"}, ["1", "0"])
    assert (made.names[made.label_id(0)], made.names[made.label_id(1)]) == ("a", "b"), "a name before a number"


@pytest.mark.parametrize(
    ("values", "labels", "head", "message"),
    [
        (["happy", "sad"], {}, ["LABEL_0", "LABEL_1"], "are LABEL_0, LABEL_1, the classes of the data happy, sad"),
        (["neg", "pos"], {}, ["negative", "positive"], "are negative, positive, the classes of the data neg, pos"),
        (["neg", "pos"], {}, ["neg", "mixed", "pos"], "3 outputs (neg, mixed, pos), the data 2 classes (neg, pos)"),
        ([1, 2], {}, ["no", "yes"], "its outputs are no, yes, the classes of the data 1, 2"),
        ([1, 2], {}, ["LABEL_0", "LABEL_1"], "no names or numbers match"),
        ([0, 2], {}, ["LABEL_0", "LABEL_1", "LABEL_2"], "it has 3 outputs"),
        ([0, 1], {"0": "bad", "1": "good"}, ["no", "yes"], "which are not all the classes that task.labels names"),
        (["a", "b"], {"a": "0", "b": "7"}, ["x", "y"], "not all the classes that task.labels names"),
        (["b", "a"], {}, ["A", "a"], "its outputs are A, a, the classes of the data a, b"),
    ],
)  # fmt: skip
def test_what_nothing_proves_is_refused_with_both_lists(values, labels, head, message):
    made = classes(values, labels)
    with pytest.raises(ValueError) as error:
        made.order(head)
    assert message in str(error.value) and "task.labels" in str(error.value) and "\n" not in str(error.value)
    before = (made.names, made.outputs)
    with pytest.raises(ValueError):
        made.follow(head)
    assert (made.names, made.outputs) == before


def test_codes_are_as_many_classes_as_there_are_codes():
    made = classes([*range(100, 117), 100])
    assert made.names == [str(code) for code in range(100, 117)]
    assert [made.label_id(code) for code in (100, 116)] == [0, 16]
    assert classes([2, 1, 2]).names == ["1", "2"]
    assert classes([1, 0]).names == ["LABEL_0", "LABEL_1"]


def test_two_models_are_joined_through_the_data():
    """The run has the first one's order, and the second is read by it."""
    made = classes([0, 1])
    made.follow(["LABEL_0", "LABEL_1"])
    assert made.order(["negative", "positive"]) == [0, 1], "neither the data nor the first has names"
    made = classes([0, 1])
    made.follow(["negative", "positive"])
    assert made.order(["positive", "negative"]) == [1, 0]
    made = classes(["sad", "happy"], {"sad": "LABEL_1", "happy": "LABEL_0"})
    made.follow(["LABEL_0", "LABEL_1"])
    assert made.names == ["LABEL_0", "LABEL_1"] and made.label_id("sad") == 1


def test_names_are_the_models_and_else_those_of_the_data():
    made = classes([0, 1], names=["bad", "good"])
    made.follow(["LABEL_0", "LABEL_1"])
    assert made.names == ["bad", "good"]
    made.follow(["GOOD", "BAD"])
    assert made.names == ["GOOD", "BAD"]
    made = classes(["sad", "happy"], {"sad": "1", "happy": "0"})
    made.follow(["LABEL_0", "LABEL_1"])
    assert made.names == ["happy", "sad"]


def test_tags_of_a_model_in_another_order():
    """CoNLL's tags and a published model of it (transformers #14230)."""
    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    head = ["O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
    made = classes(list(range(9)), names=names)
    made.follow(head)
    assert [head[made.label_id(i)] for i in range(9)] == names


def test_a_class_of_two_lines_is_a_quote_mark_left_open():
    """``sure,"yes`` and ``maybe,no"`` are one row of a CSV (autolabel #473)."""
    assert "a quote mark before it may be open" in classes(["yes", "yes\nmaybe,no"]).label_error("yes\nmaybe,no")


@pytest.mark.parametrize("value", [[0.2, 0.8], {"a": 1}, 0.5, -1, "other", 2])
def test_what_is_no_class_is_said_and_never_raises(value):
    assert classes([0, 1]).label_error(value)
    assert not classes([0, 1]).label_error(1)
