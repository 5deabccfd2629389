"""What tasks ask of the columns of their data, and of the room that the tokenizer leaves."""

from __future__ import annotations

from collections.abc import Iterator

from datasets import Dataset
from transformers import PreTrainedTokenizerBase


def named(table: Dataset, key: str, columns: list[str]) -> None:
    """Raises ValueError if a column is missing, naming the key that asks for it."""
    for name in columns:
        if name not in table.column_names:
            raise ValueError(f"{key}: there is no column {name!r}; there are {', '.join(table.column_names)}")


def bad_texts(table: Dataset, columns: list[str]) -> Iterator[tuple[int, str]]:
    """The rows that lack a text: (row counted from 1, what is wrong with it)."""
    for column in columns:
        for row, text in enumerate(table[column], 1):
            if not isinstance(text, str) or not text.strip():
                empty = text is None or isinstance(text, str)
                yield row, f"{column!r} is {'empty' if empty else f'{text!r}, not a text'}"


def text_columns(table: Dataset, given: str | list[str] | None, other: str | None, most: int) -> list[str]:
    """The columns of texts: those that were named, or all of them if there are not too many.

    Raises:
        ValueError: if a named column is missing, or none was named and there are more than ``most`` or none.
    """
    there = ", ".join(table.column_names)
    if given is None:
        kinds = {name: getattr(kind, "dtype", "") for name, kind in table.features.items() if name != other}
        found = [name for name, kind in kinds.items() if kind in ("string", "large_string")]
        if not 1 <= len(found) <= most:
            pair = ", or the two of a pair" if most == 2 else ""
            raise ValueError(f"text: name the column of the text{pair}; there are {there}")
        return found
    found = [given] if isinstance(given, str) else given
    named(table, "text", found)
    return found


def room_for(tokenizer: PreTrainedTokenizerBase, length: int, pair: bool = False) -> None:
    """Raises ValueError if the special tokens alone are that many."""
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if length <= special:
        raise ValueError(f"max_length: {length} leaves no room for text beside {special} special tokens")
