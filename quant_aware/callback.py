"""Fake quantization in the loop: put on before the first step, and switched by the step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from quant_aware.quantize import Quantize


class QuantizeAware(Callback):
    """Puts fake quantization on in ``setup``, before weights are restored or sharded, and switches it by the step."""

    def __init__(self, quantize: Quantize):
        self.quantize = quantize
        self.skipped: dict[str, str] = {}
        self.bits: dict[str, int] = {}
        """Of the weights to which bits were allotted, by name."""
        self.curves: dict[str, float] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Attaches to ``module.student``."""
        self.skipped = self.quantize.attach(module.student)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Switches as the first step of this process asks."""
        self._take_up(trainer, module)
        if self.quantize.on and trainer.global_step == 0:
            self._begin(trainer, module, False)

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Takes the gradient, of zeros, of what learns later or did before: AdamW would count the step, and move it."""
        for qparams in self.quantize.idle():
            qparams.grad = None

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Switches as the last step asks: of a run that is resumed after it no step of training begins."""
        self._take_up(trainer, module)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """Switches right after the optimizer step, so that validation of a step sees its numerics."""
        was_on, before = self.quantize.on, self.quantize.stage
        self._switch(trainer, module)
        # Not where a run is resumed: what it had learned was in the checkpoint.
        if (self.quantize.on, self.quantize.stage) != (was_on, before):
            self._begin(trainer, module, was_on)

    def _begin(self, trainer: Trainer, module: LightningModule, was_on: bool) -> None:
        if self.quantize.allot:
            batches = self._calibration(trainer, self.quantize.allot.batches)
            self.bits = self.quantize.allot_bits(module.student, module.probe, batches)
        self.quantize.calibrate(module.student, was_on, self._calibration(trainer, self.quantize.gptq))

    def _calibration(self, trainer: Trainer, count: int) -> Iterator[dict[str, Tensor]]:
        """The first batches of the epoch, of this process; nothing that training reads moves on by it."""
        loader = trainer.train_dataloader
        for group in loader.batch_sampler.order()[:count]:
            yield loader.collate_fn([loader.dataset[i] for i in loader.batch_sampler.share(group)])

    def state_dict(self) -> dict[str, dict[str, int]]:
        """The bits that were allotted."""
        return {"bits": self.bits}

    def load_state_dict(self, state_dict: dict[str, dict[str, int]]) -> None:
        """Takes them up."""
        self.bits = state_dict["bits"]

    def _take_up(self, trainer: Trainer, module: LightningModule) -> None:
        self.quantize.set_bits(module.student, self.bits)  # of a resumed run
        self._switch(trainer, module)

    def _switch(self, trainer: Trainer, module: LightningModule) -> None:
        self.quantize.update(trainer.global_step, module.timeline)
        self.curves = {"bits": self.quantize.grid.rate if self.quantize.on else 32}
