"""The second text of a row, where a model reads two texts apart: to compare their vectors."""

from __future__ import annotations

from students.recording.batch import Batch
from students.recording.model_io import MODEL_INPUTS

SECOND = "second_"
"""Begins the names of the inputs of a row's second text: ``second_input_ids``."""
TEXTS = ("", SECOND)
"""What the names of the inputs of each text of a row begin with."""


def second_text(batch: Batch) -> Batch | None:
    """Return a batch with the second text of each row in place of the first; None if its rows have one text."""
    if f"{SECOND}input_ids" not in batch:
        return None
    second = {name.removeprefix(SECOND): values for name, values in batch.items() if name.startswith(SECOND)}
    return {name: values for name, values in batch.items() if name not in MODEL_INPUTS} | second
