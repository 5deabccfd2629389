"""The callback of quantization-aware training: adds fake quantization, and switches its stage by the step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from quant_aware.quantize import Quantize


class QuantizeAware(Callback):
    """Adds fake quantization in ``setup``, before weights are restored or sharded, and switches its stage by the step.

    Args:
        quantize: the quantization of ``module.student``.
    """

    def __init__(self, quantize: Quantize):
        self.quantize = quantize
        self.skipped: dict[str, str] = {}
        self.bits: dict[str, int] = {}
        """Allocated bits, by the name of the weight."""
        self.curves: dict[str, float] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Add fake quantization to ``module.student``."""
        self.skipped = self.quantize.attach(module.student)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Switch to the stage of the first step of this process."""
        self._restore(trainer, module)
        if self.quantize.enabled and trainer.global_step == 0:
            self._calibrate(trainer, module, False)

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Remove the zero gradients of qparams of other stages: AdamW would count the step, and change them."""
        for qparams in self.quantize.inactive_qparams():
            qparams.grad = None

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Switch to the last stage: a run that is resumed after its last step has no training step."""
        self._restore(trainer, module)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """Switch right after the optimizer step, so that validation at a step has its numerics."""
        was_enabled, previous_stage = self.quantize.enabled, self.quantize.current_stage
        self._switch(trainer, module)
        # Not when a run is resumed: the learned qparams are in the checkpoint.
        if (self.quantize.enabled, self.quantize.current_stage) != (was_enabled, previous_stage):
            self._calibrate(trainer, module, was_enabled)

    def _calibrate(self, trainer: Trainer, module: LightningModule, was_enabled: bool) -> None:
        if self.quantize.bit_allocation:
            batches = self._first_batches(trainer, self.quantize.bit_allocation.batches)
            self.bits = self.quantize.allocate_bits(module.student, module.probe, batches)
        self.quantize.calibrate(module.student, was_enabled, self._first_batches(trainer, self.quantize.gptq))

    def _first_batches(self, trainer: Trainer, count: int) -> Iterator[dict[str, Tensor]]:
        """Yield the first batches of the epoch, of this process, without advancing the training loader."""
        loader = trainer.train_dataloader
        for group in loader.batch_sampler.epoch_batches()[:count]:
            yield loader.collate_fn([loader.dataset[i] for i in loader.batch_sampler.rank_rows(group)])

    def state_dict(self) -> dict[str, dict[str, int]]:
        """Return the allocated bits."""
        return {"bits": self.bits}

    def load_state_dict(self, state_dict: dict[str, dict[str, int]]) -> None:
        """Load the allocated bits."""
        self.bits = state_dict["bits"]

    def _restore(self, trainer: Trainer, module: LightningModule) -> None:
        self.quantize.set_bits(module.student, self.bits)  # of a resumed run
        self._switch(trainer, module)

    def _switch(self, trainer: Trainer, module: LightningModule) -> None:
        self.quantize.update(trainer.global_step, module.timeline)
        self.curves = {"bits": self.quantize.quantizer.bits_per_weight if self.quantize.enabled else 32}
