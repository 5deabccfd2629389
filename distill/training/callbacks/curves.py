"""The curves: a row for each logged step and each validation, to every logger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from lightning import Callback, LightningModule, Trainer

from students.processes import all_reduce_sum


@runtime_checkable
class HasCurves(Protocol):
    """The module, or a callback that has something to tell of each step."""

    @property
    def curves(self) -> Mapping[str, float]:
        """Return the values of the last step by the names of their columns."""


class Curves(Callback):
    """Writes what the module and the callbacks expose; first among these, so that a row tells the state of its step."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Notes the step at which the run begins or goes on."""
        self.step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """A row for the step that was done, at the end of its accumulation window."""
        if trainer.global_step == self.step:
            return
        step, self.step = self.step, trainer.global_step
        totals, module.totals = module.totals, {}
        if step % trainer.log_every_n_steps == 0 or trainer.global_step == module.timeline.total_steps:
            values = all_reduce_sum(torch.stack(list(totals.values()))).tolist() if totals else []
            row = {f"train/{name}": value for name, value in zip(totals, values, strict=True)}
            for source in [module, *trainer.callbacks]:
                row |= source.curves if isinstance(source, HasCurves) else {}
            self.write(trainer, module, row, step)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """A row for the metrics."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self.write(trainer, module, values, trainer.global_step)

    def write(self, trainer: Trainer, module: LightningModule, row: dict[str, float], step: int) -> None:
        """Adds the row to every logger."""
        for logger in trainer.loggers:
            logger.log_metrics({"progress": step / module.timeline.total_steps} | row, step)
