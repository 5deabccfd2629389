"""Training rows that differ in every epoch: parts of a text hidden or left out, for the teacher to judge anew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from distill.batches import LengthGrouped

Row = dict[str, list | int | float]
"""``input_ids`` and other lists of the same length; what is no list belongs to the whole text."""


@dataclass(kw_only=True)
class Augmentation(ABC):
    """A change of training rows, drawn anew in each epoch; teacher and student see the same.

    Args:
        share: the probability of the change.
    """

    shortens: ClassVar[bool] = False
    """Whether tokens are left out."""

    share: float

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ValueError(f"share: must lie in [0, 1], not {self.share}")

    def setup(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Takes once what every row needs of the tokenizer.

        Raises:
            ValueError: if the tokenizer lacks it.
        """
        self.special = frozenset(tokenizer.all_special_ids)

    @abstractmethod
    def apply(self, row: Row, draw: torch.Generator) -> Row:
        """The changed row; the given one is left alone."""


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


class Augmented(Dataset):
    """Training rows with augmentations; row i of epoch e is a function of (seed, e, i), whoever asks and when.

    Args:
        rows: the rows as they are.
        steps: applied one after the other, each to a row and a generator to draw from.
        order: whose seed and epoch are taken.
    """

    def __init__(self, rows: Dataset, steps: list[Callable[[Row, torch.Generator], Row]], order: LengthGrouped):
        self.rows, self.steps, self.order = rows, steps, order

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Row:
        found = self.rows[row]
        seed = (self.order.seed * 1_000_003 + self.order.epoch) * 1_000_000_007 + row
        draw = torch.Generator().manual_seed(seed % 2**63)
        for step in self.steps:
            found = step(found, draw)
        return found
