"""Columns whose type is none for the task are refused, with the row."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset, Image
from pyarrow import parquet

from distill.tasks.kinds.texts import Classification, Regression
from distill.tasks.kinds.tokens import TokenClassification
from tests.helpers.tables import ONE, refused

DAY = date(2024, 1, 1)


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        ([DAY] * 2, Classification, f"'label' is datetime.date(2024, 1, 1), of type date, as in all rows; {ONE}"),
        (
            [DAY] * 2,
            Regression,
            "'label' is datetime.date(2024, 1, 1), of type date, as in all rows; a label is one num",
        ),
        ([b"a", b"b"], Classification, f"'label' is b'a', of type bytes, as in all rows; {ONE}"),
        ([Decimal("1.5")] * 2, Classification, f"'label' is Decimal('1.5'), of type Decimal, as in all rows; {ONE}"),
        ([True, False], Regression, "'label' is True, true or false, as in all rows; a label is one number"),
        ([[1.0], [2.0]], Regression, "'label' is [1.0], a list, as in all rows; a label is one number"),
        ([{"a": 1}, {"a": 2}], Classification, f"'label' is {{'a': 1}}, a mapping, as in all rows; {ONE}"),
        ([None, None], Classification, "'label' is missing"),
    ],
)
def test_types_that_are_no_labels(tmp_path: Path, tokenizer, labels: list, task: type, message: str) -> None:
    parquet.write_table(pa.table({"text": ["good", "bad"], "label": labels}), tmp_path / "x.parquet")
    rows = "1, 2" if labels[0] is None else "1"
    error = refused(task(data=str(tmp_path / "x.parquet")), tokenizer)
    assert error.startswith(f"data: {tmp_path}/x.parquet row {rows}: {message}")


def test_a_gap_among_real_numbers_is_the_row_at_fault(tmp_path: Path, tokenizer) -> None:
    parquet.write_table(pa.table({"text": ["a", "b", "c"], "label": [1.0, float("nan"), 0.0]}), tmp_path / "x.parquet")
    message = f"data: {tmp_path}/x.parquet row 2: 'label' is missing"
    assert refused(Classification(data=str(tmp_path / "x.parquet")), tokenizer) == message


@pytest.mark.parametrize("column", ["text", "label"])
def test_pictures(tmp_path: Path, tokenizer, column: str) -> None:
    rows = {"text": ["good", "bad"], "label": [1, 0]} | {column: [{"bytes": b"no picture", "path": None}] * 2}
    Dataset.from_dict(rows).cast_column(column, Image()).to_parquet(tmp_path / "x.parquet")
    message = f"data: {tmp_path}/x.parquet row 1: {column!r} is {{'bytes': b'no picture', 'path': None}}, "
    assert refused(Classification(data=str(tmp_path / "x.parquet"), text="text"), tokenizer).startswith(message)


@pytest.mark.parametrize(("tags", "message"), [([["x"]], "[['x']]"), ([{"x": 1}], "[{'x': 1}]")])
def test_tags_that_are_no_classes(tmp_path: Path, tokenizer, tags: list, message: str) -> None:
    parquet.write_table(pa.table({"tokens": [["a"]] * 2, "ner_tags": [tags] * 2}), tmp_path / "x.parquet")
    error = refused(TokenClassification(data=str(tmp_path / "x.parquet")), tokenizer)
    assert error.startswith(
        f"data: {tmp_path}/x.parquet row 1: 'ner_tags' is {message}, a list, as in all rows; a tag is"
    )
