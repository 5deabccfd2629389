"""Batches of examples of similar length, independent of the number of processes and resumable at any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from losses.loss import Loss, loss_counts
from students.recording.batch import Batch
from students.recording.second_text import SECOND
from students.recording.sparse_lm_head import IGNORED


class Collator:
    """Makes a batch of rows; list columns are padded on the right.

    Args:
        tokenizer: gives the padding tokens.
        decoder_start: the token before a decoder's target text; the decoder reads its labels shifted right by one.
        finalize: the task's last change to a batch.
        losses: for which a batch of training rows carries its counts.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        decoder_start: int | None = None,
        finalize: Callable[[Batch], Batch] | None = None,
        losses: Iterable[Loss] = (),
    ):
        self.decoder_start = decoder_start
        self.finalize = finalize or (lambda batch: batch)
        self.losses = list(losses)
        self.padding = {
            "input_ids": tokenizer.pad_token_id,
            "token_type_ids": tokenizer.pad_token_type_id,
            "labels": IGNORED,
        }

    def __call__(self, rows: list[dict]) -> Batch:
        batch: Batch = {}
        for name, value in rows[0].items():
            values = [torch.tensor(row[name]) for row in rows]
            padding = self.padding.get(name.removeprefix(SECOND), 0)
            batch[name] = pad_sequence(values, True, padding) if isinstance(value, list) else torch.stack(values)
        if "decoder_attention_mask" in batch:
            shifted = batch["labels"][:, :-1].masked_fill(batch["labels"][:, :-1] == IGNORED, self.padding["input_ids"])
            batch["decoder_input_ids"] = torch.cat([torch.full((len(shifted), 1), self.decoder_start), shifted], 1)
        batch = self.finalize(batch)
        return batch | {"counts": loss_counts(self.losses, batch)} if self.losses else batch


class LengthGroupedBatchSampler:
    """Batches of row numbers: a permutation by (seed, epoch), sorted by length within chunks of 50 batches.

    A batch is of all processes: consecutive rows of that order, of which rank r takes every world-th row from r. So
    neither the batches nor their number depend on the number of processes, and each epoch has every row once. The last
    batch can have fewer rows than there are processes. A rank without a row gets the first row of the batch and is
    idle: its results do not count (``TrainLoader``).

    Args:
        lengths: of the rows, in tokens.
        batch_size: rows of a batch, of all processes together.
        seed: of the order.
        world_size: number of processes.
        rank: of this process.
        groups: of the rows; a batch has rows of one group, and the batches of the groups are mixed.

    Raises:
        ValueError: if a batch has fewer rows than there are processes.
    """

    def __init__(
        self,
        lengths: list[int],
        batch_size: int,
        seed: int = 0,
        world_size: int = 1,
        rank: int = 0,
        groups: list[int] | None = None,
    ):
        if batch_size < world_size:
            raise ValueError(
                f"batch_size: {world_size} processes cannot share {batch_size} rows; it is at least {world_size}"
            )
        self.lengths, self.size, self.seed = torch.tensor(lengths), batch_size, seed
        self.world_size, self.rank = world_size, rank
        self.groups = torch.tensor(groups or [0] * len(lengths))
        counts = [divmod(int(count), batch_size) for count in self.groups.unique(return_counts=True)[1]]
        self.full_batches = sum(full for full, _ in counts)
        self.partial_sizes = [remainder for _, remainder in counts if remainder]
        """The number of batches of full size, and the sizes of the smaller ones after them."""
        self.epoch, self.position = 0, 0

    @property
    def sampler(self) -> LengthGroupedBatchSampler:
        """Itself: Lightning calls ``set_epoch`` on ``batch_sampler.sampler`` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this at the start of each."""
        self.epoch = epoch

    def epoch_batches(self) -> list[list[int]]:
        """Return the batches of this epoch, with the rows of all processes."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=generator)
        by_group = [rows[self.groups[rows] == group] for group in self.groups.unique()]
        chunks = [chunk for group_rows in by_group for chunk in group_rows.split(50 * self.size)]
        by_length = [chunk[self.lengths[chunk].argsort(stable=True)] for chunk in chunks]
        batches = [batch.tolist() for chunk in by_length for batch in chunk.split(self.size)]
        full = [batch for batch in batches if len(batch) == self.size]
        partial = [batch for batch in batches if len(batch) < self.size]
        return [full[i] for i in torch.randperm(len(full), generator=generator).tolist()] + partial

    def rank_rows(self, batch: list[int]) -> list[int]:
        """Return the rows of a batch that this process takes; its first row if the process is idle in it."""
        return batch[self.rank :: self.world_size] or batch[:1]

    def is_idle(self, position: int) -> bool:
        """Return whether the batch at this position of an epoch has no row for this process."""
        return position >= self.full_batches and self.partial_sizes[position - self.full_batches] <= self.rank

    def __iter__(self) -> Iterator[list[int]]:
        start, self.position = self.position, 0
        return iter([self.rank_rows(batch) for batch in self.epoch_batches()[start:]])

    def __len__(self) -> int:
        return self.full_batches + len(self.partial_sizes)


def sequential_batches(groups: list[int], batch_size: int, world_size: int = 1, rank: int = 0) -> list[list[int]]:
    """Return batches of this rank's rows in their order, each of one group.

    Args:
        groups: of the rows.
        batch_size: rows of a batch, of all processes together.
        world_size: number of processes.
        rank: of this process, which takes every world-th row.
    """
    rank_rows, size = list(range(rank, len(groups), world_size)), -(-batch_size // world_size)
    by_group = [list(rows) for _, rows in groupby(rank_rows, key=groups.__getitem__)]
    return [rows[i : i + size] for rows in by_group for i in range(0, len(rows), size)]


class TrainLoader(DataLoader):
    """The training batches, each with the loss counts of the whole accumulation window that it belongs to.

    A batch has its own ``counts`` [L] from the collator; ``window`` [L] is their sum over the window. A batch in which
    this process is idle counts nothing and has the key ``idle``.

    Args:
        rows: the examples.
        batches: their order.
        collate: makes a batch of examples.
        window: batches in one optimizer step.
    """

    def __init__(
        self, rows: Dataset, batches: LengthGroupedBatchSampler, collate: Callable[[list[dict]], Batch], window: int
    ):
        # A generator of its own: DataLoader would draw a seed from the global one in each epoch, and dropout would
        # differ after resuming.
        super().__init__(rows, batch_sampler=batches, collate_fn=collate, generator=torch.Generator().manual_seed(0))
        self.window, self.position = window, 0

    def __iter__(self) -> Iterator[Batch]:
        self.position = self.batch_sampler.position
        batches = self._mark_idle(super().__iter__(), self.position)
        while window := list(islice(batches, self.window)):
            total = sum(batch["counts"] * ("idle" not in batch) for batch in window)
            for batch in window:
                self.position += 1
                yield batch | {"window": total}

    def _mark_idle(self, batches: Iterator[Batch], start: int) -> Iterator[Batch]:
        for position, batch in enumerate(batches, start):
            yield batch | {"idle": torch.tensor(True)} if self.batch_sampler.is_idle(position) else batch

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches of this epoch that were yielded."""
        return {"position": self.position % max(len(self), 1)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next epoch's iteration at the saved position."""
        self.batch_sampler.position = state["position"]
