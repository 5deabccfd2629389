"""Training rows that differ in every epoch: parts of a text hidden or left out, for the teacher to judge anew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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

    def reach(self, tokens: set[int]) -> set[int]:
        """The tokens that rows may have after the change, if these are all that they have before."""
        return tokens

    @abstractmethod
    def apply(self, row: Row, draw: torch.Generator) -> Row:
        """The changed row; the given one is left alone."""


class Drawn(Protocol):
    """What decides about the draws of an epoch: the order of the batches has both."""

    seed: int
    epoch: int


class Augmented(Dataset):
    """Training rows with augmentations; row i of epoch e is a function of (seed, e, i), whoever asks and when.

    Args:
        rows: the rows as they are.
        steps: applied one after the other, each to a row and a generator to draw from.
        order: whose seed and epoch are taken.
    """

    def __init__(self, rows: Dataset, steps: list[Callable[[Row, torch.Generator], Row]], order: Drawn):
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
