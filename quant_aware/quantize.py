"""Quantization-aware training: fake quantization on every weight and activation that the target quantizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from lightning import Callback, LightningModule, Trainer
from torch import nn
from transformers import PreTrainedModel

from prune_schedules.schedule import START, Moment, Timeline
from quant_aware.fake_quant import FakeQuant, FakeQuantInput, FakeQuantRows, InputMemo, weight_axis
from quant_aware.grids import Grid, Uniform
from students.weights import add_step, latent, select, steps


@dataclass(kw_only=True)
class Quantize:
    """Trains with the numerics of the deployed model (Jacob et al. 2018, arXiv 1712.05877; Q8BERT, arXiv 1910.06188).

    ``onnxruntime`` is its dynamic int8: weights per output channel, activations per tensor from the range they have,
    embeddings included. ``packed`` is a file of our own for all grids: it is small, and no faster.

    Args:
        weights: the grid of the weights, a number being the bits of a ``Uniform`` one; or several, one after the other,
            as in ``{40%: 8, 60%: 4, 80%: {kind: Ternary}}``.
        activations: bits of the inputs of linear layers; null leaves them alone.
        target: whose numerics and file; if not given, ``onnxruntime`` where it can, else ``packed``.
        start: the moment from which the student trains with them, where ``weights`` does not say it.
    """

    weights: Grid | dict[str, Grid] = field(default_factory=Uniform)
    activations: Literal[8] | None = 8
    target: Literal["onnxruntime", "packed"] | None = None
    start: Moment = START

    def __post_init__(self):
        if isinstance(self.weights, dict):
            if not self.weights:
                raise ValueError("weights: needs at least one moment")
            if self.start != START:
                raise ValueError("start: the first moment of weights is the start")
            self.stairs = [(Moment(text), grid) for text, grid in self.weights.items()]
        else:
            self.stairs = [(self.start, self.weights)]
        self.grid = self.stairs[-1][1]
        """In the end; while it trains, at present."""
        int8 = self.grid == Uniform() and self.activations == 8
        if self.target == "onnxruntime" and not int8:
            why = "computes with 8 bits, weights uniform and per row, and 8-bit activations"
            raise ValueError(f"target: onnxruntime {why}; leave it away, or name packed")
        self.target = self.target or ("onnxruntime" if int8 else "packed")

    @property
    def precision(self) -> str:
        """What a file of these weights is called."""
        return "int8" if self.target == "onnxruntime" else f"{self.stairs[-1][1].width}-bit"

    def windows(self, timeline: Timeline) -> list[tuple[Grid, int, int]]:
        """Each grid with the steps at which the student begins and ceases to train on it.

        Raises:
            ValueError: if a moment lies outside the run, or not after the one before it.
        """
        begin = [moment.step(timeline) for moment, _ in self.stairs]
        for (before, now), (moment, _) in zip(pairwise(begin), self.stairs[1:], strict=True):
            if now <= before:
                raise ValueError(f"weights: {moment} is step {now}, and the grid before it comes at step {before}")
        ends = [*begin[1:], timeline.total_steps]
        return [(grid, *steps) for (_, grid), *steps in zip(self.stairs, begin, ends, strict=True)]

    def find(self, model: PreTrainedModel) -> tuple[dict[str, nn.Module], dict[str, str]]:
        """The modules that are quantized, by name, and what is left out and why.

        Raises:
            ValueError: if a weight does not divide into the groups of the grid.
        """
        chosen, skipped = select(model, ["attention", "ffn", "embeddings", "head"])
        for module in chosen.values():
            for _, grid in self.stairs:
                try:
                    grid.divide(latent(module), weight_axis(module))
                except ValueError as error:
                    raise ValueError(f"weights: {error}") from None
        return chosen, skipped

    def attach(self, model: PreTrainedModel) -> dict[str, str]:
        """Puts the steps on, switched off; returns what was skipped and why."""
        chosen, skipped = self.find(model)
        memo, self._rows, self._inputs = InputMemo(self.activations or 8), [], []
        self.modules = list(chosen.values())
        for module in self.modules:
            step = FakeQuant(self.grid, weight_axis(module))
            add_step(module, step)
            if isinstance(module, nn.Embedding):
                if not any(grid.per == "tensor" for _, grid in self.stairs):
                    # In training only the rows that are looked up are quantized: each has its own scale, so it is the
                    # same, and a table of a vocabulary is far larger than a batch.
                    rows = FakeQuantRows(self.grid)
                    self._rows.append((rows, module.register_forward_hook(rows), step))
            elif self.activations:
                hook = FakeQuantInput(memo)
                self._inputs.append((hook, module.register_forward_pre_hook(hook)))
        tables = {id(step) for _, _, step in self._rows}
        self._steps = [step for step in steps(model, FakeQuant).values() if id(step) not in tables]
        return skipped

    def update(self, step: int, timeline: Timeline) -> None:
        """Switches to the grid of a step, a pure function of it."""
        begun = [grid for grid, start, _ in self.windows(timeline) if step >= start]
        self.on = bool(begun)
        self.grid = begun[-1] if begun else self.stairs[-1][1]
        for part in [*self._steps, *(hook for hook, _ in self._inputs), *(rows for rows, _, _ in self._rows)]:
            part.enabled = self.on
        for part in [*self._steps, *(rows for rows, _, _ in self._rows)]:
            part.grid = self.grid

    def settle(self) -> None:
        """After training: moves the quantization of looked-up rows to whole tables, so that they can be folded."""
        for rows, handle, step in self._rows:
            handle.remove()
            step.enabled, step.grid = rows.enabled, rows.grid

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
        module.status["bits"] = self.quantize.grid.width if self.quantize.on else 32
