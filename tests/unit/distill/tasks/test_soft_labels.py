"""Soft labels: cells as numbers, logits from probabilities, and the column of each class."""

import math

import pytest
import torch

from distill.tasks.classes import Classes
from distill.tasks.soft_labels import LOG_ZERO, SoftLabels, SoftLabelsError, number

TWO = Classes(["negative", "positive"], [0, 1])


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *((1, 1.0), ("0.25", 0.25), (" 1e-3 ", 1e-3), (-2.5, -2.5)),
        *((cell, math.inf) for cell in (True, "x", "0,5", "inf", -1e39, [0.5])),
    ],
)
def test_a_cell_is_a_number(cell: object, value: float) -> None:
    assert number(cell) == value


@pytest.mark.parametrize("cell", [None, "", "  ", "NaN", math.nan])
def test_a_cell_is_empty(cell: object) -> None:
    assert math.isnan(number(cell))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_softmax_of_the_logits_at_the_temperature_is_the_probabilities(temperature: float) -> None:
    p = [[0.125, 0.875], [1.0, 0.0], [1e-300, 1.0]]
    labels = SoftLabels(["a", "b"], temperature=temperature)
    logits = torch.tensor(
        labels.logits({"a": [x for x, _ in p], "b": [str(x) for _, x in p]}, TWO), dtype=torch.float64
    )
    torch.testing.assert_close((logits / temperature).softmax(-1), torch.tensor(p).double(), rtol=1e-12, atol=1e-299)
    assert logits[1].tolist() == [0.0, temperature * LOG_ZERO]


def test_logits_are_multiplied_by_the_temperature_and_empty_cells_stay() -> None:
    labels = SoftLabels({"positive": "b", "negative": "a"}, are_probabilities=False, temperature=2.0)
    first, second = labels.logits({"a": [0.5, None], "b": [-3, ""]}, TWO)
    assert first == [1.0, -6.0] and all(map(math.isnan, second))


def test_columns_follow_the_numbers_of_the_labels() -> None:
    stars = Classes(["5 stars", "1 star", "3 stars"], [5, 1, 3])
    assert SoftLabels(["one", "three", "five"]).by_class(stars) == ["five", "one", "three"]
    assert SoftLabels({"1 star": "a", "3 stars": "b", "5 stars": "c"}).by_class(stars) == ["c", "a", "b"]


def test_values_of_the_data_name_a_class_as_well() -> None:
    assert SoftLabels({"0": "a", "1": "b"}).by_class(Classes(["x", "y"], [0, 1], {"0": 0, "1": 1})) == ["a", "b"]


@pytest.mark.parametrize("columns", [["a", "b"], {"x": "a"}])
def test_a_regression_has_one_column(columns: list[str] | dict[str, str]) -> None:
    assert SoftLabels(["a"]).by_class(Classes([""])) == ["a"]
    with pytest.raises(SoftLabelsError, match="columns: a regression has one"):
        SoftLabels(columns).by_class(Classes([""]))
