"""Columns of labels: numbers, words, truth values, and the order of classes."""

from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from distill.data import prepare_data
from distill.tasks.kinds.texts import Regression
from tests.helpers.tables import NAMES, labelled, ready, texts_of

# Labels


@pytest.mark.parametrize(
    ("values", "labels", "numbers"),
    [
        ([0, 2, 1, 0], ["LABEL_0", "LABEL_1", "LABEL_2"], [0, 2, 1, 0]),
        (["spam", "ham", "spam", "eggs"], ["eggs", "ham", "spam"], [2, 1, 2, 0]),
        (["1", "0", "10", "1"], ["0", "1", "10"], [1, 0, 2, 1]),
        ([True, False, True, True], ["LABEL_0", "LABEL_1"], [1, 0, 1, 1]),
    ],
)
def test_labels_as_numbers_words_or_truth_values(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, values: list, labels: list, numbers: list
) -> None:
    task, rows = ready(labelled(tmp_path, values), tokenizer)
    assert task.classes.names == labels
    assert texts_of(rows["train"], tokenizer) == {f"film {i}": number for i, number in enumerate(numbers)}


def test_named_classes_keep_their_order(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    task, rows = ready(labelled(tmp_path, [0, 1, 1, 0], "parquet", ["positive", "negative"]), tokenizer)
    assert task.classes.names == ["positive", "negative"]
    assert list(texts_of(rows["train"], tokenizer).values()) == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("values", "names", "kind"),
    [([0, 1, 2, 1], ["a", "b", "c"], "parquet"), (["a", "b", "c", "b"], None, "csv")],
)
def test_the_order_of_the_teachers_classes_is_taken(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, values: list, names: list[str] | None, kind: str
) -> None:
    task, rows = ready(labelled(tmp_path, values, kind, names), tokenizer, head=["c", "a", "b"])
    assert task.classes.names == ["c", "a", "b"]
    for split in ("train", "validation"):
        assert texts_of(rows[split], tokenizer) == {"film 0": 1, "film 1": 2, "film 2": 0, "film 3": 2}
    assert [task.label_text(row) for row in task.validation] == ["a", "b", "c", "b"]
    assert [task.prediction_text(number, {}) for number in range(3)] == ["c", "a", "b"]


def test_a_number_of_32_bits_is_said_as_it_was_written(tmp_path: Path) -> None:
    task = Regression(data=str(tmp_path))
    assert [task.label_text({"label": float(np.float32(score))}) for score in (0.2, 3.8, 5.0)] == ["0.2", "3.8", "5"]


@pytest.mark.parametrize("head", [["LABEL_0", "LABEL_1"], ["bad", "good"], ["positive", "negative", "neutral"], None])
def test_other_names_of_the_teacher_change_nothing(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, head: list[str] | None
) -> None:
    task, rows = ready(labelled(tmp_path, [0, 1, 1, 0], "parquet", NAMES), tokenizer, head)
    assert task.classes.names == NAMES
    assert list(texts_of(rows["train"], tokenizer).values()) == [0, 1, 1, 0]


@pytest.mark.parametrize("values", [[0.5, 4.75, 2.0, 3.25], [1, 5, 2, 3], ["0.5", "4.75", "2", "3.25"]])
def test_regression(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, values: list) -> None:
    task = Regression(data=labelled(tmp_path, values))
    rows = prepare_data(task, tokenizer)
    assert task.classes.names == [""]
    labels = list(texts_of(rows["train"], tokenizer).values())
    assert labels == [float(value) for value in values] and all(isinstance(value, float) for value in labels)
