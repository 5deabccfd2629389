"""Batches of examples of like length, the same for any number of processes, that can go on where they stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, islice

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from students.asked import IGNORED


class Collate:
    """Makes one batch of rows: what is a list in them is padded on the right.

    Args:
        tokenizer: knows what stands at padding.
        start: what a decoder with a text of its own is given first: it reads its labels, moved by one.
        finish: what a task does to a batch.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, start: int | None = None, finish: Callable | None = None):
        pad, self.start, self.finish = tokenizer.pad_token_id, start, finish or (lambda batch: batch)
        self.padding = {"input_ids": pad, "token_type_ids": tokenizer.pad_token_type_id, "labels": IGNORED}

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        batch = {}
        for name, value in rows[0].items():
            values = [torch.tensor(row[name]) for row in rows]
            listed = isinstance(value, list)
            batch[name] = pad_sequence(values, True, self.padding.get(name, 0)) if listed else torch.stack(values)
        if "decoder_attention_mask" in batch:
            read = batch["labels"][:, :-1].masked_fill(batch["labels"][:, :-1] == IGNORED, self.padding["input_ids"])
            batch["decoder_input_ids"] = torch.cat([torch.full((len(read), 1), self.start), read], 1)
        return self.finish(batch)


class LengthGrouped:
    """Batches of row numbers: a permutation from (seed, epoch), sorted by length inside stretches of 50 batches.

    A global batch is ``batch_size * world`` consecutive rows of that order; rank r takes every world-th from r. So
    the global batches do not depend on how many processes share them. A last global batch too small for all ranks
    is left out.

    Args:
        lengths: of the rows, in tokens.
        batch_size: rows of a batch of one process.
        seed: of the order.
        world: number of processes.
        rank: of this one.
        kinds: of the rows: a batch has rows of one kind, and the kinds' batches are mixed.
    """

    def __init__(
        self,
        lengths: list[int],
        batch_size: int,
        seed: int = 0,
        world: int = 1,
        rank: int = 0,
        kinds: list[int] | None = None,
    ):
        self.lengths, self.size, self.seed = torch.tensor(lengths), batch_size * world, seed
        self.world, self.rank = world, rank
        self.kinds = torch.tensor(kinds or [0] * len(lengths))
        self.epoch, self.position = 0, 0

    @property
    def sampler(self) -> LengthGrouped:
        """Itself: Lightning tells the epoch to ``batch_sampler.sampler``, and to nothing else of ours."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def order(self) -> list[list[int]]:
        """The global batches of this epoch."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=draw)
        parts = [part for kind in self.kinds.unique() for part in rows[self.kinds[rows] == kind].split(50 * self.size)]
        stretches = [part[self.lengths[part].argsort(stable=True)] for part in parts]
        groups = [group.tolist() for stretch in stretches for group in stretch.split(self.size)]
        whole = [group for group in groups if len(group) == self.size]
        rest = [group for group in groups if self.world <= len(group) < self.size]
        return [whole[i] for i in torch.randperm(len(whole), generator=draw).tolist()] + rest

    def __iter__(self) -> Iterator[list[int]]:
        start, self.position = self.position, 0
        return iter([group[self.rank :: self.world] for group in self.order()[start:]])

    def __len__(self) -> int:
        counts = [divmod(int(count), self.size) for count in self.kinds.unique(return_counts=True)[1]]
        return sum(whole + (rest >= self.world) for whole, rest in counts)


def in_turn(kinds: list[int], batch_size: int, world: int = 1, rank: int = 0) -> list[list[int]]:
    """Batches of the rows one after the other, each of one kind; rank r has every world-th row from r."""
    own = list(range(rank, len(kinds), world))
    alike = [list(rows) for _, rows in groupby(own, key=kinds.__getitem__)]
    return [rows[i : i + batch_size] for rows in alike for i in range(0, len(rows), batch_size)]


class Loader(DataLoader):
    """The training batches: knows its position, and tells each batch the counts of the whole accumulation window it
    is part of.

    Args:
        rows: the examples.
        batches: their order.
        collate: makes one batch of examples.
        window: batches in one optimizer step.
        count: the counts [L] of a batch, one for each loss; ``batch["window"]`` is their sum over the window.
    """

    def __init__(
        self, rows: Dataset, batches: LengthGrouped, collate: Callable, window: int, count: Callable[[dict], Tensor]
    ):
        # A generator of its own: otherwise each pass would draw from the global one, and dropout would differ after
        # resuming.
        super().__init__(rows, batch_sampler=batches, collate_fn=collate, generator=torch.Generator().manual_seed(0))
        self.window, self.count, self.position = window, count, 0

    def __iter__(self) -> Iterator[dict]:
        self.position = self.batch_sampler.position
        batches = super().__iter__()
        while group := list(islice(batches, self.window)):
            total = sum(self.count(batch) for batch in group)
            for batch in group:
                self.position += 1
                yield batch | {"window": total}

    def state_dict(self) -> dict[str, int]:
        """The number of batches of this epoch that were given out."""
        return {"position": self.position % max(len(self), 1)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next pass starts there."""
        self.batch_sampler.position = state["position"]
