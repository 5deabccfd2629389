"""Random changes of training rows in each epoch: tokens are masked, replaced or left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = dict[str, list[int] | int | float]
"""``input_ids`` and other lists of the same length; values that are not lists belong to the whole text."""


@dataclass(kw_only=True)
class Augmentation(ABC):
    """A change of training rows, drawn anew in each epoch; teacher and student read the same changed rows.

    Args:
        probability: of the change.
    """

    removes_tokens: ClassVar[bool] = False
    """Whether tokens are left out."""

    probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability: must lie in [0, 1], not {self.probability}")

    def setup(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Prepare for a tokenizer.

        Raises:
            ValueError: if the tokenizer is unsuitable.
        """
        self.special_ids = frozenset(tokenizer.all_special_ids)

    def reachable_tokens(self, tokens: set[int]) -> set[int]:
        """Return the tokens that rows may have after the change, given those before it."""
        return tokens

    @abstractmethod
    def apply(self, row: Row, generator: torch.Generator) -> Row:
        """Return the changed row; the given row is not modified."""


class EpochOrder(Protocol):
    """The seed and the epoch of random changes; the batch sampler has both."""

    seed: int
    epoch: int


class AugmentedDataset(Dataset[Row]):
    """Training rows with augmentations; row i of epoch e is a function of (seed, e, i) only.

    Args:
        rows: the original rows.
        steps: applied one after the other, each to a row and a random generator.
        order: gives the seed and the epoch.
    """

    def __init__(self, rows: Sequence[Row], steps: list[Callable[[Row, torch.Generator], Row]], order: EpochOrder):
        self.rows, self.steps, self.order = rows, steps, order

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Row:
        augmented = self.rows[row]
        seed = (self.order.seed * 1_000_003 + self.order.epoch) * 1_000_000_007 + row
        generator = torch.Generator().manual_seed(seed % 2**63)
        for step in self.steps:
            augmented = step(augmented, generator)
        return augmented
