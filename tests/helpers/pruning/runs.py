"""Runs of a few steps with pruning, for tests of what a run goes through: interruptions, cuts, several processes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from prune_schedules.callback import Prune
from prune_schedules.schedule import Timeline
from tests.helpers.families import batch, tiny


class Module(lightning.LightningModule):
    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder
        self.student, self.timeline = tiny("bert"), Timeline(total_steps=12, epoch_steps=4)
        self.seen: list[float] = []

    def training_step(self, rows, index):
        loss = self.student.train()(**rows).loss
        self.seen.append(float(loss.detach()))
        return loss

    def on_train_batch_start(self, rows, index):
        torch.manual_seed(self.trainer.fit_loop.epoch_loop.total_batch_idx)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)

    def saved(self, step: int) -> dict[str, Any]:
        """The checkpoint that it left at a step."""
        return torch.load(self.folder / f"at-step={step}.ckpt")


def fit(folder: Path, prune: Prune, stop: int = 12, start: int = 0, strategy: str = "auto") -> Module:
    """A module that was trained to step ``stop``, from the checkpoint of step ``start`` on; each step leaves one."""
    module = Module(folder)
    # The same rows at every step: Lightning starts a plain loader anew when it resumes within an epoch.
    data = [{key: value[0] for key, value in batch("bert", size=1).items()}] * 8
    trainer = lightning.Trainer(
        max_steps=stop,
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        logger=False,
        callbacks=[prune, ModelCheckpoint(folder, filename="at-{step}", every_n_train_steps=1, save_top_k=-1)],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, DataLoader(data, batch_size=2), ckpt_path=f"{folder}/at-step={start}.ckpt" if start else None)
    return module


def fit_on(uninterrupted: Module, folder: Path, prune: Prune, start: int, strategy: str = "auto") -> Module:
    """Return a module trained in ``folder`` to the end, from the checkpoint of ``uninterrupted`` at step ``start``."""
    checkpoint = f"at-step={start}.ckpt"
    folder.mkdir(exist_ok=True)
    (folder / checkpoint).write_bytes((uninterrupted.folder / checkpoint).read_bytes())
    return fit(folder, prune, start=start, strategy=strategy)


def resume(uninterrupted: Module, folder: Path, prune: Prune, start: int) -> Module:
    """``fit_on`` in one process; losses, state and optimizer state equal those of ``uninterrupted`` to the bit."""
    resumed = fit_on(uninterrupted, folder, prune, start)
    assert resumed.seen == uninterrupted.seen[start:], f"{resumed.seen} for {uninterrupted.seen[start:]}"
    actual, expected = resumed.state_dict(), uninterrupted.state_dict()
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert torch.equal(value, expected[name]), name
    resumed_state, expected_state = (module.saved(12)["optimizer_states"][0] for module in (resumed, uninterrupted))
    assert resumed_state["param_groups"] == expected_state["param_groups"]
    assert resumed_state["state"].keys() == expected_state["state"].keys()
    for number, state in resumed_state["state"].items():
        for key, value in state.items():
            assert torch.equal(value, expected_state["state"][number][key]), f"{key} of {number}"
    return resumed


def resumable(folder: Path, make: Callable[[], Prune], starts: Sequence[int]) -> Module:
    """A run without a stop; it is checked that it ends the same when it is resumed at each of these steps."""
    uninterrupted = fit(folder / "whole", make())
    for start in starts:
        resume(uninterrupted, folder / str(start), make(), start)
    return uninterrupted
