"""Runs of a few steps with pruning, for tests of what a run goes through: interruptions, cuts, several processes."""

from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from prune_schedules import Prune
from prune_schedules.schedule import Timeline
from tests.families import batch, tiny


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.student, self.timeline = tiny("bert"), Timeline(total_steps=12, epoch_steps=4)
        self.seen: list[float] = []
        self.status: dict[str, float] = {}

    def training_step(self, rows, index):
        loss = self.student.train()(**rows).loss
        self.seen.append(float(loss.detach()))
        return loss

    def on_train_batch_start(self, rows, index):
        torch.manual_seed(self.trainer.fit_loop.epoch_loop.total_batch_idx)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def fit(folder: Path, prune: Prune, stop: int = 12, start: int = 0, strategy: str = "auto") -> Module:
    """A module that was trained to step ``stop``, from the checkpoint of step ``start`` on; each step leaves one."""
    module = Module()
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
