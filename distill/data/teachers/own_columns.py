"""The columns of rows that hold the inputs of teachers with a tokenizer of their own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from distill.data.limit import text_lengths
from distill.tasks.augment.augmentation import Row
from students.recording.model_io import MODEL_INPUTS
from students.recording.own_tokens import OwnTokens, is_own, own_key
from students.recording.second_text import TEXTS
from students.tokenizer.encoder import TextEncoder

Step = Callable[[Row, torch.Generator], Row]
"""A random change of a row."""


def has_same_tokens(rows: DatasetDict, teacher: str) -> bool:
    """Return whether a teacher's inputs equal the student's in all rows."""
    for part in rows.values():
        for name in (f"{prefix}{name}" for prefix in TEXTS for name in ("input_ids", "token_type_ids")):
            names = [column for column in (name, own_key(teacher, name)) if column in part.column_names]
            if not names:
                continue
            for batch in part.select_columns(names).iter(1_000):
                values = [batch[column] for column in names]
                if len(values) == 2 and values[0] != values[1]:
                    return False
                if len(values) == 1 and any(map(any, values[0])):  # a model without types reads type 0
                    return False
    return True


def own_names(rows: Dataset, teacher: str) -> list[str]:
    """Return the names of the columns with a teacher's inputs."""
    return [name for name in rows.column_names if name.startswith(own_key(teacher, ""))]


def without_teacher(rows: DatasetDict, teacher: str) -> DatasetDict:
    """Return the rows without a teacher's inputs."""
    return DatasetDict({split: part.remove_columns(own_names(part, teacher)) for split, part in rows.items()})


def student_rows(rows: Dataset) -> Dataset:
    """Return the rows without the inputs of any teacher."""
    return rows.remove_columns([name for name in rows.column_names if is_own(name)])


def teacher_rows(rows: Dataset, own: OwnTokens | None) -> Dataset:
    """Return the rows as a teacher reads them: its inputs in place of the student's, and of those of other teachers."""
    if own is None:
        return student_rows(rows)
    renamed = {name: name.removeprefix(own.key("")) for name in own_names(rows, own.name)}
    replaced = {*MODEL_INPUTS, *renamed.values()} - {"task"}
    rows = rows.remove_columns([name for name in rows.column_names if name in replaced])
    return student_rows(rows.rename_columns(renamed))


def longest_row(rows: DatasetDict, teacher: str) -> int:
    """Return the length of the longest row in the tokens of a teacher."""
    return max(max(text_lengths(part, own_key(teacher, ""))) for part in rows.values())


def with_own_tokens(
    steps: list[Step], encoders: dict[str, TextEncoder], tokenizer: PreTrainedTokenizerBase, num_texts: int
) -> list[Step]:
    """Return steps after which teachers with a tokenizer of their own read the changed text, too.

    The text is what the changed tokens spell; in a row that did not change, it stays as it was.

    Args:
        steps: changes of the student's tokens.
        encoders: by teacher; without any, the steps are returned as they are.
        tokenizer: the student's.
        num_texts: texts of a row: 1, or 2 of a pair.
    """
    if not encoders:
        return steps

    def apply(row: Row, generator: torch.Generator) -> Row:
        own = {name: value for name, value in row.items() if is_own(name)}
        plain = {name: value for name, value in row.items() if not is_own(name)}
        changed = plain
        for step in steps:
            changed = step(changed, generator)
        if changed["input_ids"] == plain["input_ids"]:
            return changed | own
        for teacher, encoder in encoders.items():
            inputs = encoder.encode_tokens(changed["input_ids"], tokenizer, num_texts)
            own |= {own_key(teacher, name): values for name, values in inputs.items()}
        return changed | own

    return [apply]
