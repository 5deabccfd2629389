"""Augmentation by leaving out: tokens hidden, or a piece of the text alone."""

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
        share: the probability for a token, 0.1 in the paper.
    """

    share: float = 0.1

    def setup(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().setup(tokenizer)
        if tokenizer.mask_token_id is None:
            raise ValueError("augment: Masking needs a mask token, and the tokenizer has none")
        self.mask = tokenizer.mask_token_id

    def reach(self, tokens: set[int]) -> set[int]:
        return tokens | {self.mask}

    def apply(self, row: Row, draw: torch.Generator) -> Row:
        hidden = torch.rand(len(row["input_ids"]), generator=draw) < self.share
        ids = [
            self.mask if hide and token not in self.special else token
            for token, hide in zip(row["input_ids"], hidden.tolist(), strict=True)
        ]
        return row | {"input_ids": ids}


@dataclass(kw_only=True)
class NGrams(Augmentation):
    """A text becomes a piece of itself with a probability (Tang et al. 2019, arXiv 1903.12136, n-gram sampling).

    Of a pair, one text is drawn and the other stays whole.

    Args:
        share: the probability for a row, 0.25 in the paper.
        longest: the piece has from 1 to so many tokens, each length as likely.
    """

    shortens: ClassVar[bool] = True

    share: float = 0.25
    longest: int = 5

    def __post_init__(self):
        super().__post_init__()
        if self.longest < 1:
            raise ValueError(f"longest: must be at least 1, not {self.longest}")

    def apply(self, row: Row, draw: torch.Generator) -> Row:
        def number(below: int) -> int:
            return int(torch.randint(below, (1,), generator=draw))

        if torch.rand(1, generator=draw) >= self.share:
            return row
        runs = groupby(range(len(row["input_ids"])), key=lambda i: row["input_ids"][i] not in self.special)
        texts = [list(positions) for text, positions in runs if text]
        if not texts:
            return row
        text = texts[number(len(texts))]
        size = min(len(text), 1 + number(self.longest))
        start = text[0] + number(len(text) - size + 1)
        kept = [i for i in range(len(row["input_ids"])) if i not in text or start <= i < start + size]
        return {name: [value[i] for i in kept] if isinstance(value, list) else value for name, value in row.items()}
