"""The curves: a row for each logged step and each validation, sent to every logger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from lightning import Callback, LightningModule, Trainer

from students.processes import all_reduce_sum


@runtime_checkable
class HasCurves(Protocol):
    """The module, or a callback that logs values of each step."""

    @property
    def curves(self) -> Mapping[str, float]:
        """Return the values of the last step, by column of metrics.csv."""


class CurveLogger(Callback):
    """Logs the ``curves`` of the module and the callbacks; the first callback, so that a row has its step's state."""

    def __init__(self):
        self.values: dict[str, float] = {}
        """The row of the last logged step."""
        self.metrics: dict[str, float] = {}
        """The metrics of the last validation."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Remember the first step of this process."""
        self.step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """Log a row for the finished step, at the end of its accumulation window."""
        if trainer.global_step == self.step:
            return
        step, self.step = self.step, trainer.global_step
        loss_sums, module.loss_sums = module.loss_sums, {}
        if step % trainer.log_every_n_steps == 0 or trainer.global_step == module.timeline.total_steps:
            values = all_reduce_sum(torch.stack(list(loss_sums.values()))).tolist() if loss_sums else []
            row = {f"train/{name}": value for name, value in zip(loss_sums, values, strict=True)}
            for source in [module, *trainer.callbacks]:
                row |= source.curves if isinstance(source, HasCurves) else {}
            row = {"loss": sum(row[f"train/{name}_weight"] * row[f"train/{name}"] for name in loss_sums)} | row
            self.values = row
            self.write(trainer, module, row, step)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Log a row with the metrics."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self.metrics = values
        self.write(trainer, module, values, trainer.global_step)

    def write(self, trainer: Trainer, module: LightningModule, row: dict[str, float], step: int) -> None:
        """Send a row to every logger."""
        row = {"progress": step / module.timeline.total_steps} | row
        for logger in trainer.loggers:
            logger.log_metrics(row, step)
