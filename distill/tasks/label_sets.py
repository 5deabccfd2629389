"""The labels of rows that may have several: a list of them, a text that separates them, or a column for each."""

from __future__ import annotations

import json

from distill.tasks.columns import shorten

Label = int | str
_CELLS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def parse_labels(cell: object, separator: str | None) -> list[Label]:
    """Return the labels that a cell lists: a list, a text with separators, or without these a list as JSON.

    Raises:
        ValueError: if it does not list labels, or one of them twice, with the end of a message about the cell.
    """
    if separator is not None:
        texts = [] if cell is None else [text.strip() for text in str(cell).split(separator)]
        return _without_duplicates([text for text in texts if text])
    if isinstance(cell, str):
        cell = _parse_json(cell)
    if cell is None:
        raise ValueError(" is missing; a row without labels has []")
    if not isinstance(cell, list):
        raise ValueError(f" is {shorten(cell)}, no list")
    labels = [int(label) if isinstance(label, float) and label.is_integer() else label for label in cell]
    if any(isinstance(label, bool) for label in labels):
        raise ValueError(" has true or false; list the labels that hold, or name a column for each label")
    for label in labels:
        if not isinstance(label, int | str):
            raise ValueError(f" has {shorten(label)}; a label is a whole number or a text")
    return _without_duplicates(labels)


def parse_indicator(cell: object) -> bool:
    """Return whether a label holds by the cell of its column: 0, 1, true or false.

    Raises:
        ValueError: if it is something else, with the end of a message about the cell.
    """
    if cell is None or cell == "":
        raise ValueError(" is missing; write 0 or 1")
    text = str(cell).strip().lower()
    if text not in _CELLS:
        raise ValueError(f" is {shorten(cell)}, not 0, 1, true or false")
    return _CELLS[text]


def _parse_json(text: str) -> object:
    if not text.strip():
        return []
    try:
        return json.loads(text)
    except ValueError as error:
        reason = "no list as JSON, and task.separator is not given"
        raise ValueError(f" is {shorten(text)}, {reason}") from error


def _without_duplicates(labels: list[Label]) -> list[Label]:
    """Return the labels; 0, 1, 1 of three columns would otherwise be read as the labels 0 and 1."""
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f" has {shorten(label)} twice; a row lists each of its labels once")
    return labels
