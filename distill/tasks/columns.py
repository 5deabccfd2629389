"""Checks of the columns of data, and of the tokenizer's ``max_length``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def shorten(value: object, max_length: int = 60, plain: bool = False) -> str:
    """Return the repr of a value, or with ``plain`` its text, cut to a maximum number of characters."""
    text = value if plain else repr(value[: 2 * max_length] if isinstance(value, str) else value)
    return text if len(text) <= max_length else f"{text[: max_length - 4]} ..."


def list_names(names: list[str], max_names: int = 12) -> str:
    """Return names separated by commas; of many, the first and the number of the others."""
    rest = f", … ({len(names) - max_names} more)" if len(names) > max_names else ""
    return ", ".join(shorten(name, plain=True) for name in names[:max_names]) + rest


def values_of(table: Dataset, column: str) -> Iterator[object]:
    """Yield the values of a column in order, read by the thousand: one by one takes ten times as long."""
    for rows in table.select_columns([column]).iter(1000):
        yield from rows[column]


def check_columns(table: Dataset, key: str, columns: list[str]) -> None:
    """Raise ValueError if a column is missing, naming the config key that names it."""
    for name in columns:
        if name not in table.column_names:
            raise ValueError(f"{key}: there is no column {name!r}; there are {list_names(table.column_names)}")


_TYPES = {bool: "true or false", int: "a whole number", float: "a real number", str: "a text", list: "a list"}


def type_of(value: object) -> str:
    """Return the type of a value in words."""
    return _TYPES.get(type(value), "a mapping" if isinstance(value, dict) else f"of type {type(value).__name__}")


def bad_texts(table: Dataset, columns: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (row counted from 1, message) for each row without a text."""
    for column in columns:
        kind = table.data.schema.field(column).type
        if not (is_text(kind) or pa.types.is_null(kind)):
            for row, value, type_name in first_value(table, column):
                yield row, f"{column!r} is {value}, not a text but {type_name}"
            continue
        for row, text in enumerate(values_of(table, column), 1):
            if text is None or not text.strip():
                yield row, f"{column!r} is empty"


def bad_labels(table: Dataset, column: str, numbers: bool) -> Iterator[tuple[int, str]]:
    """Yield the first row, if a column's type is unsuitable for labels: a list, a mapping, a date, an image, bytes.

    Args:
        table: if it lacks the column, nothing is yielded.
        column: of labels.
        numbers: whether the labels are numbers instead of classes.
    """
    if column not in table.column_names:
        return
    kind = table.data.schema.field(column).type
    if (is_label(kind) and not (numbers and pa.types.is_boolean(kind))) or (numbers and pa.types.is_decimal(kind)):
        return
    if numbers:
        expected = "a label is one number"
    else:
        expected = "a label is one class, a whole number or a text"
        hint = "; several labels of a row are for task.name: multi_label, and probabilities are not supported"
        expected += hint * pa.types.is_nested(kind)
    for row, value, type_name in first_value(table, column):
        yield row, f"{column!r} is {value}, {type_name}; {expected}"


def bad_relevance(table: Dataset, column: str) -> Iterator[tuple[int, str]]:
    """Yield (row counted from 1, message) for each negative number of a column of numbers."""
    for row, value in enumerate(table[column], 1):
        if float(value) < 0:
            yield row, f"{column!r} is {value!r}; a relevance is at least 0"


def is_label(kind: pa.DataType) -> bool:
    """Return whether values of a type may be classes or numbers; ``bad_rows`` checks the values."""
    types = pa.types
    simple = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)
    return simple or is_text(kind)


def is_list(kind: pa.DataType) -> bool:
    """Return whether a type is a list type."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is a string type."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def first_value(table: Dataset, column: str) -> Iterator[tuple[int, str, str]]:
    """Yield the first row with a value in a column whose values all have the wrong type, the value, and its type."""
    for row, value in enumerate(table.with_format("arrow")[column], 1):
        if value.is_valid:
            suffix = ", as in all rows" if len(table) > 1 else ""
            yield row, shorten(value.as_py()), f"{type_of(value.as_py())}{suffix}"
            return


PAIRS = [
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("question", "answer"),
    ("query", "passage"),
    ("query", "document"),
    ("claim", "evidence"),
    ("anchor", "positive"),
    ("first", "second"),
    ("left", "right"),
]
"""Names of two columns that form a pair."""


def is_pair(first: str, second: str) -> bool:
    """Return whether the names of two columns are a pair: one of ``PAIRS``, or as ``x1``, ``x2`` or ``xa``, ``xb``."""
    names = {first.lower(), second.lower()}
    if any(names == set(pair) for pair in PAIRS):
        return True
    first, second = sorted(names) if len(names) == 2 else ("", "")
    return bool(first) and first[:-1] == second[:-1] and (first[-1], second[-1]) in (("1", "2"), ("a", "b"))


def find_text_columns(
    table: Dataset, given: str | list[str] | None, others: Collection[str], max_columns: int
) -> list[str]:
    """Return the columns of the text: those given, else the only column of texts or the two of a pair (``is_pair``).

    Args:
        table: has the columns.
        given: their names, if the config gives any.
        others: columns of texts to leave out, those of labels.
        max_columns: 2 if pairs are allowed, else 1.

    Raises:
        ValueError: if a named column is missing, or none is named and the choice is ambiguous.
    """
    if given is None:
        types = {name: table.data.schema.field(name).type for name in table.column_names}
        texts = [name for name, kind in types.items() if name not in others and is_text(kind)]
        if len(texts) == 1 or (len(texts) == max_columns == 2 and is_pair(*texts)):
            return texts
        pair = ", or the two of a pair" if max_columns == 2 else ""
        hint = f"; {list_names(texts)} are columns of texts" if 1 < len(texts) < len(table.column_names) else ""
        raise ValueError(f"text: name the column of the text{pair}; there are {list_names(table.column_names)}{hint}")
    columns = [given] if isinstance(given, str) else given
    check_columns(table, "text", columns)
    return columns


def check_max_length(tokenizer: PreTrainedTokenizerBase, max_length: int, pair: bool = False) -> None:
    """Raise ValueError if ``max_length`` leaves no room for text beside the special tokens."""
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if max_length <= special:
        raise ValueError(f"max_length: {max_length} leaves no room for text beside {special} special tokens")
