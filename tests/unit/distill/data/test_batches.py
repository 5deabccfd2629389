"""The order of the data: the same for any number of processes, every row once, exact after a stop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import LightningModule, Trainer

from distill.data.batches import LengthGroupedBatchSampler, TrainLoader
from distill.training.callbacks.checkpoints import LastCheckpoint

fixed = settings(derandomize=True, deadline=None, database=None)
LENGTHS = torch.randint(3, 40, (103,), generator=torch.Generator().manual_seed(0)).tolist()


def epoch_of(batches: LengthGroupedBatchSampler, epoch: int = 0) -> list[list[int]]:
    batches.set_epoch(epoch)
    return list(batches)


def together(ranks: list[LengthGroupedBatchSampler], epoch: int = 0) -> list[list[int]]:
    """The rows of each batch that count, of all ranks."""
    seen = [epoch_of(rank, epoch) for rank in ranks]
    return [
        sorted(row for rank, part in zip(ranks, parts, strict=True) if not rank.is_idle(at) for row in part)
        for at, parts in enumerate(zip(*seen, strict=True))
    ]


@pytest.mark.parametrize("world", [2, 4, 8])
@pytest.mark.parametrize("rows", [96, 97, 100, 103])
def test_the_ranks_together_see_what_one_process_would(world, rows):
    """Also of the last batch of 1, 4 or 7 rows: the ranks without a row are idle, and none is without a batch."""
    alone = epoch_of(LengthGroupedBatchSampler(LENGTHS[:rows], 8))
    ranks = [LengthGroupedBatchSampler(LENGTHS[:rows], 8, world_size=world, rank=rank) for rank in range(world)]
    assert together(ranks) == [sorted(group) for group in alone]
    assert {len(rank) for rank in ranks} == {len(alone)} == {-(-rows // 8)}
    assert all(part for rank in ranks for part in epoch_of(rank))
    assert sum(rank.is_idle(len(alone) - 1) for rank in ranks) == max(0, world - (rows % 8 or 8))


@fixed
@given(st.lists(st.integers(1, 50), min_size=1, max_size=300), st.integers(3, 9), st.integers(1, 3), st.integers(0, 9))
def test_every_row_comes_once(lengths, size, world, epoch):
    ranks = [LengthGroupedBatchSampler(lengths, size, world_size=world, rank=rank) for rank in range(world)]
    batches = together(ranks, epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert {len(batches)} == {len(rank) for rank in ranks}
    assert all(len(batch) == size for batch in batches[:-1])


@pytest.mark.parametrize("world", [9, 16])
def test_a_batch_of_fewer_rows_than_processes_is_refused(world):
    with pytest.raises(ValueError, match=f"batch_size: {world} processes cannot share 8 rows; it is at least {world}"):
        LengthGroupedBatchSampler(LENGTHS, 8, world_size=world)


def test_an_idle_rank_counts_nothing():
    """Of 9 rows in batches of 4 the last has one row, that of rank 0; both ranks tell what they count of the window."""
    for rank, rows in ((0, [2, 2, 1]), (1, [2, 2, 0])):
        batches = list(loader(3, 9, 4, world_size=2, rank=rank))
        assert [sum(rows)] * 3 == [int(batch["window"][0]) for batch in batches]
        assert ["idle" in batch for batch in batches] == [False, False, rank == 1]
        assert [len(batch["rows"]) for batch in batches] == [2, 2, 1]
        following = loader(1, 9, 4, world_size=2, rank=rank)
        following.load_state_dict({"position": 2})
        assert [int(batch["window"][0]) for batch in following] == rows[2:]


def test_the_small_batch_is_the_last():
    sizes = [len(batch) for batch in epoch_of(LengthGroupedBatchSampler(LENGTHS, 8))]
    assert sizes == [8] * 12 + [7]


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[list[int]]:
        return epoch_of(LengthGroupedBatchSampler(LENGTHS, 8, seed=seed), epoch)

    assert order(0, 0) == order(0, 0) and order(3, 5) == order(3, 5)
    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    list(loader())
    assert torch.equal(torch.rand(3), expected)


def test_a_batch_holds_rows_of_like_length():
    batches = epoch_of(LengthGroupedBatchSampler(LENGTHS, 8))
    spread = [max(LENGTHS[row] for row in batch) - min(LENGTHS[row] for row in batch) for batch in batches]
    assert max(spread) < 10 < max(LENGTHS) - min(LENGTHS)
    firsts = [LENGTHS[batch[0]] for batch in batches]
    assert firsts != sorted(firsts)


def collate(rows: list[int]) -> dict[str, torch.Tensor]:
    """Counts of a batch: its rows, and the sum of them."""
    return {"rows": torch.tensor(rows), "counts": torch.tensor([len(rows), sum(rows)])}


def loader(window: int = 1, rows: int = 103, size: int = 8, **options) -> TrainLoader:
    return TrainLoader(list(range(rows)), LengthGroupedBatchSampler(LENGTHS[:rows], size, **options), collate, window)


@pytest.mark.parametrize("window", [1, 3, 4, 20])
def test_each_batch_tells_the_counts_of_its_window(window):
    given_out = list(loader(window))
    assert len(given_out) == 13
    for first in range(0, 13, window):
        group = given_out[first : first + window]
        rows = torch.cat([batch["rows"] for batch in group])
        for batch in group:
            assert batch["window"].tolist() == [len(rows), int(rows.sum())]


@pytest.mark.parametrize("stopped", [0, 3, 6, 12])
def test_from_a_position_the_rest_follows(stopped):
    uninterrupted = [(b["rows"].tolist(), b["window"].tolist()) for b in loader(3)]
    first, again = loader(3), loader(3)
    going = iter(first)
    for _ in range(stopped):
        next(going)
    assert first.state_dict() == {"position": stopped}
    again.load_state_dict(first.state_dict())
    assert [(b["rows"].tolist(), b["window"].tolist()) for b in again] == uninterrupted[stopped:]
    again.batch_sampler.set_epoch(1)
    assert len(list(again)) == 13


def test_at_the_end_of_an_epoch_the_position_is_the_start_of_the_next():
    done = loader()
    list(done)
    assert done.state_dict() == {"position": 0}


class Notes(LightningModule):
    """Notes the rows it is given, and trains one number."""

    def __init__(self) -> None:
        super().__init__()
        self.number, self.seen = torch.nn.Parameter(torch.zeros(1)), []

    def training_step(self, batch: dict, index: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch["rows"].tolist()))
        return self.number.square().sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(data: TrainLoader, folder, stop: int, checkpoint: str | None = None) -> list[tuple[int, list[int]]]:
    """The (epoch, rows) of the batches until step ``stop``, where ``last.ckpt`` is written as by every run."""
    module = Notes()
    trainer = Trainer(
        max_steps=stop,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        callbacks=[LastCheckpoint(folder, every=100, total=stop)],
    )
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=False)
    return module.seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stopped", [2, 5, 8, 10])
def test_lightning_gives_each_epoch_its_own_order_and_goes_on_where_it_stopped(tmp_path, stopped):
    uninterrupted = fitted(loader(rows=40), tmp_path, 15)
    assert [batch for epoch, batch in uninterrupted if epoch == 0] == epoch_of(
        LengthGroupedBatchSampler(LENGTHS[:40], 8), 0
    )
    assert [batch for epoch, batch in uninterrupted if epoch == 1] == epoch_of(
        LengthGroupedBatchSampler(LENGTHS[:40], 8), 1
    )
    before = fitted(loader(rows=40), tmp_path, stopped)
    after = fitted(loader(rows=40), tmp_path, 15, str(tmp_path / "last.ckpt"))
    assert before + after == uninterrupted
