"""Quantization-aware training: fake quantization on every weight and activation that the target quantizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightning import Callback, LightningModule, Trainer
from torch import nn

from prune_schedules.schedule import START, Moment, Timeline
from quant_aware.fake_quant import FakeQuant, FakeQuantInput, FakeQuantRows, InputMemo, weight_axis
from students.weights import add_step, select, steps


@dataclass(kw_only=True)
class Quantize:
    """Trains with the numerics of the deployed model (Jacob et al. 2018, arXiv 1712.05877; Q8BERT, arXiv 1910.06188).

    ``onnxruntime`` is its dynamic int8: weights per output channel, activations per tensor from the range they have,
    embeddings included.

    Args:
        weights: bits of the weights.
        activations: bits of the inputs of linear layers.
        target: whose numerics; it decides what is quantized.
        start: the moment from which the student trains with them.
    """

    weights: Literal[8] = 8
    activations: Literal[8] = 8
    target: Literal["onnxruntime"] = "onnxruntime"
    start: Moment = START

    def attach(self, model: nn.Module) -> dict[str, str]:
        """Puts the steps on, switched off; returns what was skipped and why."""
        chosen, skipped = select(model, ["attention", "ffn", "embeddings", "head"])
        memo, self._rows, self._inputs = InputMemo(self.activations), [], []
        for module in chosen.values():
            step = FakeQuant(self.weights, weight_axis(module))
            add_step(module, step)
            if isinstance(module, nn.Embedding):
                # In training only the rows that are looked up are quantized: each has its own scale, so it is the same,
                # and a table of a vocabulary is far larger than a batch.
                rows = FakeQuantRows(self.weights)
                self._rows.append((rows, module.register_forward_hook(rows), step))
            else:
                hook = FakeQuantInput(memo)
                self._inputs.append((hook, module.register_forward_pre_hook(hook)))
        tables = {id(step) for _, _, step in self._rows}
        self._steps = [step for step in steps(model, FakeQuant).values() if id(step) not in tables]
        return skipped

    def update(self, step: int, timeline: Timeline) -> None:
        """Switches on from ``start``, a pure function of the step."""
        self.on = step >= self.start.step(timeline)
        for part in [*self._steps, *(hook for hook, _ in self._inputs), *(rows for rows, _, _ in self._rows)]:
            part.enabled = self.on

    def settle(self) -> None:
        """After training: moves the quantization of looked-up rows to whole tables, so that they can be folded."""
        for rows, handle, step in self._rows:
            handle.remove()
            step.enabled = rows.enabled

    def detach_inputs(self) -> None:
        """Takes the hooks on the inputs off; the weights are folded elsewhere."""
        for _, handle in self._inputs:
            handle.remove()


class QuantizeAware(Callback):
    """Puts fake quantization on in ``setup``, before weights are restored or sharded, and switches it by the step."""

    def __init__(self, quantize: Quantize):
        self.quantize = quantize
        self.skipped: dict[str, str] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Attaches to ``module.student``."""
        self.skipped = self.quantize.attach(module.student)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Switches as the first step of this process asks."""
        self._switch(trainer, module)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """Switches right after the optimizer step, so that validation of a step sees its numerics."""
        self._switch(trainer, module)

    def _switch(self, trainer: Trainer, module: LightningModule) -> None:
        self.quantize.update(trainer.global_step, module.timeline)
        module.status["bits"] = self.quantize.weights if self.quantize.on else 32
