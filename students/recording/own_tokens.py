"""The tokens of a teacher whose tokenizer is not the student's: one text, two encodings."""

from __future__ import annotations

from dataclasses import dataclass

from students.recording.batch import SEPARATOR, Batch
from students.recording.model_io import MODEL_INPUTS


@dataclass(frozen=True)
class OwnTokens:
    """The inputs of one teacher in rows and batches, beside those of the student.

    Args:
        name: of the teacher.
        pad_token_id: the id of its padding.
        pad_token_type_id: the token type of its padding.
    """

    name: str
    pad_token_id: int
    pad_token_type_id: int = 0

    def key(self, name: str) -> str:
        """Return the name of an input of the teacher in a batch."""
        return own_key(self.name, name)

    def read(self, batch: Batch) -> Batch:
        """Return a batch with the teacher's inputs in place of the student's; labels and all else stay.

        A batch pads with zeros, so the teacher's padding is set here, by its mask. Reading twice is reading once.
        """
        mask = batch[self.key("attention_mask")]
        padding = {"input_ids": self.pad_token_id, "token_type_ids": self.pad_token_type_id}
        rest = {name: values for name, values in batch.items() if name not in MODEL_INPUTS or name == "task"}
        for name in MODEL_INPUTS:
            if (values := batch.get(self.key(name))) is not None:
                rest[name] = values.masked_fill(mask == 0, padding[name]) if name in padding else values
        return rest


def own_key(teacher: str, name: str) -> str:
    """Return the name of a teacher's own input in rows and batches."""
    return f"{teacher}{SEPARATOR}{name}"


def is_own(name: str) -> bool:
    """Return whether the name of a column or of a tensor is that of a teacher's own input."""
    return SEPARATOR in name
