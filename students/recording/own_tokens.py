"""The tokens of a teacher whose tokenizer is not the student's: one text, two encodings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from students.recording.batch import SEPARATOR, Batch
from students.recording.model_io import MODEL_INPUTS
from students.recording.second_text import TEXTS
from students.recording.sparse_lm_head import IGNORED

_READ = {f"{prefix}{name}" for prefix in TEXTS for name in MODEL_INPUTS} - {"task"}
"""The names of the inputs of a model in a batch, those of a second text among them."""


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
        """Return a batch with the teacher's inputs in place of the student's, and the labels if they are of its tokens.

        A batch pads with zeros, so the teacher's padding is set here, by its mask. Reading twice is reading once.
        """
        padding = {"input_ids": self.pad_token_id, "token_type_ids": self.pad_token_type_id}
        rest = {name: values for name, values in batch.items() if name not in _READ}
        for prefix in TEXTS:
            mask = batch.get(self.key(f"{prefix}attention_mask"))
            for name in MODEL_INPUTS if mask is not None else ():
                if (values := batch.get(self.key(f"{prefix}{name}"))) is not None:
                    is_padded = name in padding
                    rest[f"{prefix}{name}"] = values.masked_fill(mask == 0, padding[name]) if is_padded else values
        if (own_labels := batch.get(self.key("labels"))) is not None:
            rest["labels"] = own_labels.masked_fill(batch[self.key("attention_mask")] == 0, IGNORED)
        return rest

    def align(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return logits at the positions of the student: of tagged words [B, T, C] those at its labels, [B, S, C].

        Labels are those of the same words in the same order on both sides; other positions are zeros. Outputs for
        whole texts are returned as they are.

        Raises:
            ValueError: if a text has more labels on one side.
        """
        if self.key("labels") not in batch:
            return logits
        own, labelled = self.read(batch)["labels"] != IGNORED, batch["labels"] != IGNORED
        if not torch.equal(own.sum(1), labelled.sum(1)):
            raise ValueError(f"{self.name} and the student have labels of different words")
        aligned = logits.new_zeros(*labelled.shape, logits.shape[-1])
        aligned[labelled] = logits[own]
        return aligned


def own_key(teacher: str, name: str) -> str:
    """Return the name of a teacher's own input in rows and batches."""
    return f"{teacher}{SEPARATOR}{name}"


def is_own(name: str) -> bool:
    """Return whether the name of a column or of a tensor is that of a teacher's own input."""
    return SEPARATOR in name
