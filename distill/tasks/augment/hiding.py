"""Augmentation by leaving out: masked tokens, or a piece of the text."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar

import torch

from distill.tasks.augment.augmentation import Augmentation, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(kw_only=True)
class Masking(Augmentation):
    """Each token becomes the mask token with a probability (Tang et al. 2019, arXiv 1903.12136, masking).

    Args:
        probability: for a token, 0.1 in the paper.
    """

    probability: float = 0.1

    def setup(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(tokenizer)
        if tokenizer.mask_token_id is None:
            raise ValueError("augment: Masking needs a mask token, and the tokenizer has none")
        self.mask_id = tokenizer.mask_token_id

    def reachable_tokens(self, tokens: set[int]) -> set[int]:
        return tokens | {self.mask_id}

    def apply(self, row: Row, generator: torch.Generator) -> Row:
        masked = torch.rand(len(row["input_ids"]), generator=generator) < self.probability
        ids = [
            self.mask_id if is_masked and token not in self.special_ids else token
            for token, is_masked in zip(row["input_ids"], masked.tolist(), strict=True)
        ]
        return row | {"input_ids": ids}


@dataclass(kw_only=True)
class NGrams(Augmentation):
    """A text becomes a piece of itself with a probability (Tang et al. 2019, arXiv 1903.12136, n-gram sampling).

    In a pair, one of the texts is drawn and the other stays unchanged.

    Args:
        probability: for a row, 0.25 in the paper.
        max_tokens: the length of the piece is drawn uniformly from 1 to this number.
    """

    removes_tokens: ClassVar[bool] = True

    probability: float = 0.25
    max_tokens: int = 5

    def __post_init__(self):
        super().__post_init__()
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens: must be at least 1, not {self.max_tokens}")

    def apply(self, row: Row, generator: torch.Generator) -> Row:
        def number(below: int) -> int:
            return int(torch.randint(below, (1,), generator=generator))

        if torch.rand(1, generator=generator) >= self.probability:
            return row
        runs = groupby(range(len(row["input_ids"])), key=lambda i: row["input_ids"][i] not in self.special_ids)
        texts = [list(positions) for text, positions in runs if text]
        if not texts:
            return row
        text = texts[number(len(texts))]
        size = min(len(text), 1 + number(self.max_tokens))
        start = text[0] + number(len(text) - size + 1)
        indices = [i for i in range(len(row["input_ids"])) if i not in text or start <= i < start + size]
        return {name: [value[i] for i in indices] if isinstance(value, list) else value for name, value in row.items()}
