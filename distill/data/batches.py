"""Batches of examples of like length, the same for any number of processes, that can go on where they stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from losses.loss import Loss, loss_counts
from students.recording.batch import Batch
from students.recording.sparse_lm_head import IGNORED


class Collate:
    """Makes one batch of rows: what is a list in them is padded on the right.

    Args:
        tokenizer: knows what stands at padding.
        start: what a decoder with a text of its own is given first: it reads its labels, moved by one.
        finish: what a task does to a batch.
        losses: those for which a batch of training rows carries its counts.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        start: int | None = None,
        finish: Callable[[Batch], Batch] | None = None,
        losses: Iterable[Loss] = (),
    ):
        pad, self.start, self.finish = tokenizer.pad_token_id, start, finish or (lambda batch: batch)
        self.losses = list(losses)
        self.padding = {"input_ids": pad, "token_type_ids": tokenizer.pad_token_type_id, "labels": IGNORED}

    def __call__(self, rows: list[dict]) -> Batch:
        batch: Batch = {}
        for name, value in rows[0].items():
            values = [torch.tensor(row[name]) for row in rows]
            listed = isinstance(value, list)
            batch[name] = pad_sequence(values, True, self.padding.get(name, 0)) if listed else torch.stack(values)
        if "decoder_attention_mask" in batch:
            read = batch["labels"][:, :-1].masked_fill(batch["labels"][:, :-1] == IGNORED, self.padding["input_ids"])
            batch["decoder_input_ids"] = torch.cat([torch.full((len(read), 1), self.start), read], 1)
        batch = self.finish(batch)
        return batch | {"counts": loss_counts(self.losses, batch)} if self.losses else batch


class LengthGrouped:
    """Batches of row numbers: a permutation from (seed, epoch), sorted by length inside stretches of 50 batches.

    A batch is of all processes: consecutive rows of that order, of which rank r takes every world-th from r. So
    neither the batches nor their number depend on how many processes share them, and every row comes once in an epoch.
    A last batch may have fewer rows than there are processes; those without one are given its first row, and are idle:
    what they make of it does not count (``Loader``).

    Args:
        lengths: of the rows, in tokens.
        batch_size: rows of a batch.
        seed: of the order.
        world: number of processes.
        rank: of this one.
        kinds: of the rows: a batch has rows of one kind, and the kinds' batches are mixed.

    Raises:
        ValueError: if a batch has fewer rows than there are processes.
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
        if batch_size < world:
            raise ValueError(f"batch_size: {world} processes cannot share {batch_size} rows; it is at least {world}")
        self.lengths, self.size, self.seed = torch.tensor(lengths), batch_size, seed
        self.world, self.rank = world, rank
        self.kinds = torch.tensor(kinds or [0] * len(lengths))
        counts = [divmod(int(count), batch_size) for count in self.kinds.unique(return_counts=True)[1]]
        self.whole, self.rests = sum(whole for whole, _ in counts), [rest for _, rest in counts if rest]
        """How many batches are of full size, and the sizes of those after them."""
        self.epoch, self.position = 0, 0

    @property
    def sampler(self) -> LengthGrouped:
        """Itself: Lightning tells the epoch to ``batch_sampler.sampler``, and to nothing else of ours."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def order(self) -> list[list[int]]:
        """The batches of this epoch, of all processes."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=draw)
        parts = [part for kind in self.kinds.unique() for part in rows[self.kinds[rows] == kind].split(50 * self.size)]
        stretches = [part[self.lengths[part].argsort(stable=True)] for part in parts]
        groups = [group.tolist() for stretch in stretches for group in stretch.split(self.size)]
        whole = [group for group in groups if len(group) == self.size]
        rest = [group for group in groups if len(group) < self.size]
        return [whole[i] for i in torch.randperm(len(whole), generator=draw).tolist()] + rest

    def share(self, group: list[int]) -> list[int]:
        """The rows of a batch that this process takes; of one in which it is idle, the first."""
        return group[self.rank :: self.world] or group[:1]

    def idle(self, position: int) -> bool:
        """Whether the batch at this place of an epoch has no row for this process."""
        return position >= self.whole and self.rests[position - self.whole] <= self.rank

    def __iter__(self) -> Iterator[list[int]]:
        start, self.position = self.position, 0
        return iter([self.share(group) for group in self.order()[start:]])

    def __len__(self) -> int:
        return self.whole + len(self.rests)


def in_turn(kinds: list[int], batch_size: int, world: int = 1, rank: int = 0) -> list[list[int]]:
    """Batches of the rows one after the other, each of one kind; rank r has every world-th row from r, and of
    ``batch_size`` rows, which are of all processes, its share.
    """
    own, share = list(range(rank, len(kinds), world)), -(-batch_size // world)
    alike = [list(rows) for _, rows in groupby(own, key=kinds.__getitem__)]
    return [rows[i : i + share] for rows in alike for i in range(0, len(rows), share)]


class Loader(DataLoader):
    """The training batches: knows its position, and writes into each batch the counts of the whole accumulation window
    that it is part of.

    Args:
        rows: the examples.
        batches: their order.
        collate: makes one batch of examples, with its ``counts`` [L]; ``window`` is their sum over the window. A batch
            in which this process is idle counts nothing, and says so: ``idle``.
        window: batches in one optimizer step.
    """

    def __init__(self, rows: Dataset, batches: LengthGrouped, collate: Callable[[list[dict]], Batch], window: int):
        # A generator of its own: otherwise each pass would draw from the global one, and dropout would differ after
        # resuming.
        super().__init__(rows, batch_sampler=batches, collate_fn=collate, generator=torch.Generator().manual_seed(0))
        self.window, self.position = window, 0

    def __iter__(self) -> Iterator[Batch]:
        self.position = self.batch_sampler.position
        batches = self._marked(super().__iter__(), self.position)
        while group := list(islice(batches, self.window)):
            total = sum(batch["counts"] * ("idle" not in batch) for batch in group)
            for batch in group:
                self.position += 1
                yield batch | {"window": total}

    def _marked(self, batches: Iterator[Batch], start: int) -> Iterator[Batch]:
        for position, batch in enumerate(batches, start):
            yield batch | {"idle": torch.tensor(True)} if self.batch_sampler.idle(position) else batch

    def state_dict(self) -> dict[str, int]:
        """The number of batches of this epoch that were given out."""
        return {"position": self.position % max(len(self), 1)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next pass starts there."""
        self.batch_sampler.position = state["position"]
