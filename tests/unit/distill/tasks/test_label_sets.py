"""Cells that list labels, or say whether one holds."""

import pytest

from distill.tasks.label_sets import parse_indicator, parse_labels


@pytest.mark.parametrize(
    ("cell", "separator", "labels"),
    [
        (["a", "b"], None, ["a", "b"]),
        ([2, 0], None, [2, 0]),
        ([2.0, 0.0], None, [2, 0]),
        ([], None, []),
        ('["a", "b c"]', None, ["a", "b c"]),
        ("[0, 2]", None, [0, 2]),
        ("", None, []),
        ("a|b c | d", "|", ["a", "b c", "d"]),
        ("a, ,b,", ",", ["a", "b"]),
        ("a b", " ", ["a", "b"]),
        ("", "|", []),
        (None, "|", []),
        (3, "|", ["3"]),
    ],
)
def test_labels_of_a_cell(cell: object, separator: str | None, labels: list) -> None:
    assert parse_labels(cell, separator) == labels


@pytest.mark.parametrize(
    ("cell", "separator", "message"),
    [
        (None, None, " is missing; a row without labels has []"),
        ("a", None, " is 'a', no list as JSON, and task.separator is not given"),
        ('{"a": 1}', None, " is {'a': 1}, no list"),
        (["a", None], None, " has None; a label is a whole number or a text"),
        ([0.5], None, " has 0.5; a label is a whole number or a text"),
        ([True, False], None, " has true or false; list the labels that hold, or name a column for each label"),
        ([0, 1, 1], None, " has 1 twice; a row lists each of its labels once"),
        ("a|a", "|", " has 'a' twice; a row lists each of its labels once"),
    ],
)
def test_what_lists_no_labels_is_refused(cell: object, separator: str | None, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_labels(cell, separator)
    assert str(caught.value) == message


def test_indicators() -> None:
    assert all(parse_indicator(cell) for cell in (1, 1.0, True, "1", "1.0", "true", " TRUE "))
    assert not any(parse_indicator(cell) for cell in (0, 0.0, False, "0", "0.0", "false", "False"))
    for cell, message in (
        (None, " is missing; write 0 or 1"),
        ("", " is missing; write 0 or 1"),
        (2, " is 2, not 0, 1, true or false"),
        (0.5, " is 0.5, not 0, 1, true or false"),
        ("yes", " is 'yes', not 0, 1, true or false"),
    ):
        with pytest.raises(ValueError) as caught:
            parse_indicator(cell)
        assert str(caught.value) == message
