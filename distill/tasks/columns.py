"""What tasks ask of the columns of their data, and of the room that the tokenizer leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def shortened(value: object, most: int = 60, plain: bool = False) -> str:
    """A value as Python writes it, or ``plain`` as a text, of at most so many characters."""
    text = value if plain else repr(value[: 2 * most] if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def listed(names: list[str], most: int = 12) -> str:
    """Names one after the other, the first of many."""
    more = f", … ({len(names) - most} more)" if len(names) > most else ""
    return ", ".join(shortened(name, plain=True) for name in names[:most]) + more


def values_of(table: Dataset, column: str) -> Iterator[object]:
    """The values of a column in the order of the rows, read by the thousand: one by one they take ten times as long."""
    for rows in table.select_columns([column]).iter(1000):
        yield from rows[column]


def named(table: Dataset, key: str, columns: list[str]) -> None:
    """Raises ValueError if a column is missing, naming the key that asks for it."""
    for name in columns:
        if name not in table.column_names:
            raise ValueError(f"{key}: there is no column {name!r}; there are {listed(table.column_names)}")


_TYPES = {bool: "true or false", int: "a whole number", float: "a real number", str: "a text", list: "a list"}


def type_of(value: object) -> str:
    """The type of a value in words."""
    return _TYPES.get(type(value), "a mapping" if isinstance(value, dict) else f"of type {type(value).__name__}")


def bad_texts(table: Dataset, columns: list[str]) -> Iterator[tuple[int, str]]:
    """The rows that lack a text: (row counted from 1, what is wrong with it)."""
    for column in columns:
        kind = table.data.schema.field(column).type
        if not (is_text(kind) or pa.types.is_null(kind)):
            for row, value, kind_of_all in example(table, column):
                yield row, f"{column!r} is {value}, not a text but {kind_of_all}"
            continue
        for row, text in enumerate(values_of(table, column), 1):
            if text is None or not text.strip():
                yield row, f"{column!r} is empty"


def bad_labels(table: Dataset, column: str, numbers: bool) -> Iterator[tuple[int, str]]:
    """The first row, if the type of a column is that of no label: a list, a mapping, a date, an image, bytes.

    Args:
        table: has the column, or this finds nothing.
        column: of labels; of lists, it is what they hold.
        numbers: whether the labels are numbers, and not classes.
    """
    if column not in table.column_names:
        return
    kind = table.data.schema.field(column).type
    if (is_label(kind) and not (numbers and pa.types.is_boolean(kind))) or (numbers and pa.types.is_decimal(kind)):
        return
    if numbers:
        wanted = "a label is one number"
    else:
        wanted = "a label is one class, a whole number or a text"
        wanted += "; several classes of a row, or their probabilities, are not read" * pa.types.is_nested(kind)
    for row, value, kind_of_all in example(table, column):
        yield row, f"{column!r} is {value}, {kind_of_all}; {wanted}"


def is_label(kind: pa.DataType) -> bool:
    """Whether values of a type may be classes or numbers; which of them may, ``bad_rows`` judges."""
    types = pa.types
    simple = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)
    return simple or is_text(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether it is a type of lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether it is a type of texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def example(table: Dataset, column: str) -> Iterator[tuple[int, str, str]]:
    """The first row that has something in a column whose values all have the wrong type, its value, its type."""
    for row, value in enumerate(table.with_format("arrow")[column], 1):
        if value.is_valid:
            also = ", as in all rows" if len(table) > 1 else ""
            yield row, shortened(value.as_py()), f"{type_of(value.as_py())}{also}"
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
"""Names of two columns that belong together."""


def is_pair(one: str, other: str) -> bool:
    """Whether two columns are a pair by their names: one of ``PAIRS``, or one name with 1 and 2, or a and b."""
    names = {one.lower(), other.lower()}
    if any(names == set(pair) for pair in PAIRS):
        return True
    first, second = sorted(names) if len(names) == 2 else ("", "")
    return bool(first) and first[:-1] == second[:-1] and (first[-1], second[-1]) in (("1", "2"), ("a", "b"))


def text_columns(table: Dataset, given: str | list[str] | None, other: str | None, most: int) -> list[str]:
    """The columns of texts: those that were named; else the only one, or the two of a pair, in their order.

    Two columns are a pair if their names say so (``is_pair``).

    Args:
        table: has them.
        given: their names.
        other: a column that is none of them.
        most: 2 if pairs are read, else 1.

    Raises:
        ValueError: if a named column is missing, or none was named and it is not clear which is meant.
    """
    if given is None:
        found = [name for name in table.column_names if name != other and is_text(table.data.schema.field(name).type)]
        if len(found) == 1 or (len(found) == most == 2 and is_pair(*found)):
            return found
        pair = ", or the two of a pair" if most == 2 else ""
        which = f"; {listed(found)} are columns of texts" if 1 < len(found) < len(table.column_names) else ""
        raise ValueError(f"text: name the column of the text{pair}; there are {listed(table.column_names)}{which}")
    found = [given] if isinstance(given, str) else given
    named(table, "text", found)
    return found


def room_for(tokenizer: PreTrainedTokenizerBase, length: int, pair: bool = False) -> None:
    """Raises ValueError if the special tokens alone are that many."""
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if length <= special:
        raise ValueError(f"max_length: {length} leaves no room for text beside {special} special tokens")
