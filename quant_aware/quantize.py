"""Quantization-aware training: fake quantization on every weight and activation that the target quantizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Literal

from lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from prune_schedules.schedule import START, Moment, Timeline
from quant_aware.fake_quant import FakeQuant, FakeQuantInput, FakeQuantRows, InputMemo, weight_axis
from quant_aware.grids import Grid, Uniform
from students.weights import add_step, latent, select, steps, uses


@dataclass(kw_only=True)
class Quantize:
    """Trains with the numerics of the deployed model (Jacob et al. 2018, arXiv 1712.05877; Q8BERT, arXiv 1910.06188).

    ``onnxruntime`` is its dynamic int8: weights per output channel, activations per tensor from the range they have,
    embeddings included. ``packed`` is a file of our own for all grids: it is small, and no faster.

    Args:
        weights: the grid of the weights, a number being the bits of a ``Uniform`` one; or several, one after the other,
            as in ``{40%: 8, 60%: 4, 80%: {kind: Ternary}}``.
        mixed: grids of their own for weights by a pattern of their name in the student's file, the first that matches,
            as in ``{"*embeddings*": 8, "classifier.*": null}``; null leaves a weight alone.
        activations: bits of the inputs of linear layers; null leaves them alone.
        target: whose numerics and file; if not given, ``onnxruntime`` where it can, else ``packed``.
        start: the moment from which the student trains with them, where ``weights`` does not say it.
    """

    weights: Grid | dict[str, Grid] = field(default_factory=Uniform)
    mixed: dict[str, Grid | None] = field(default_factory=dict)
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
        int8 = all(grid == Uniform() for grid in (self.grid, *self.mixed.values())) and self.activations == 8
        if self.target == "onnxruntime" and not int8:
            why = "computes with 8 bits, weights uniform and per row, and 8-bit activations"
            raise ValueError(f"target: onnxruntime {why}; leave it away, or name packed")
        self.target = self.target or ("onnxruntime" if int8 else "packed")

    @property
    def precision(self) -> str:
        """What a file of these weights is called."""
        if self.target == "onnxruntime":
            return "int8"
        widths = {grid.width for grid in (self.stairs[-1][1], *self.mixed.values()) if grid}
        return f"{' and '.join(map(str, sorted(widths)))}-bit"

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
            ValueError: if a weight does not divide into the groups of its grid, or a pattern matches none.
        """
        chosen, skipped = select(model, ["attention", "ffn", "embeddings", "head"])
        for tied in self._tied(model):
            chosen |= tied
            for name in tied:
                skipped.pop(name, None)
        for pattern in self.mixed:
            meant = [name for name in (*chosen, *skipped) if fnmatchcase(f"{name}.weight", pattern)]
            if not chosen.keys() & set(meant):
                why = "".join(f"; {name} is {skipped[name]}" for name in meant)
                raise ValueError(f"mixed: no weight that is quantized is called {pattern!r}{why}")
        for name, module in chosen.items():
            key, grids = self._grids(name)
            for grid in grids:
                try:
                    grid.divide(latent(module), weight_axis(module))
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from None
            if not grids:
                skipped[name] = "left out by mixed"
        return {name: module for name, module in chosen.items() if name not in skipped}, skipped

    def _tied(self, model: PreTrainedModel) -> list[dict[str, nn.Module]]:
        """The modules, by name, that use one weight and find the same values in it: a table of words and a head."""
        found = []
        for names in uses(model).values():
            if len(names) == 1 or not all(name.endswith(".weight") for name in names):
                continue
            users = {name.removesuffix(".weight"): model.get_submodule(name.rsplit(".", 1)[0]) for name in names}
            grids = [self._grids(name)[1] for name in users]
            tables = all(isinstance(module, (nn.Linear, nn.Embedding)) for module in users.values())
            if tables and all(each == grids[0] for each in grids) and not any(g.per == "tensor" for g in grids[0]):
                found.append(users)
        return found

    def _grids(self, name: str) -> tuple[str, list[Grid]]:
        """The key that gives a weight its grids, and which it will have one after the other."""
        for pattern, grid in self.mixed.items():
            if fnmatchcase(f"{name}.weight", pattern):
                return f"mixed: {pattern}", [grid] if grid else []
        return "weights", [grid for _, grid in self.stairs]

    def attach(self, model: PreTrainedModel) -> dict[str, str]:
        """Puts the steps on, switched off; returns what was skipped and why."""
        chosen, skipped = self.find(model)
        memo, self._rows = InputMemo(self.activations or 8), []
        self._inputs: dict[nn.Module, tuple[FakeQuantInput, RemovableHandle]] = {}
        self._found: dict[nn.Module, FakeQuant] = {}
        self._staged: list[FakeQuant | FakeQuantRows] = []
        for name, module in chosen.items():
            key, grids = self._grids(name)
            step = self._found[module] = FakeQuant(grids[-1], weight_axis(module))
            add_step(module, step)
            if key == "weights":
                self._staged.append(step)
            if isinstance(module, nn.Embedding):
                if not any(grid.per == "tensor" for grid in grids):
                    # In training only the rows that are looked up are quantized: each has its own scale, so it is the
                    # same, and a table of a vocabulary is far larger than a batch.
                    rows = FakeQuantRows(grids[-1])
                    self._rows.append((rows, module.register_forward_hook(rows, prepend=True), step))
                    if key == "weights":
                        self._staged.append(rows)
            elif self.activations:
                hook = FakeQuantInput(memo)
                self._inputs[module] = hook, module.register_forward_pre_hook(hook)
        tables = {id(step) for _, _, step in self._rows}
        self._steps = [step for step in steps(model, FakeQuant).values() if id(step) not in tables]
        return skipped

    def update(self, step: int, timeline: Timeline) -> None:
        """Switches to the grid of a step, a pure function of it."""
        begun = [grid for grid, start, _ in self.windows(timeline) if step >= start]
        self.on = bool(begun)
        self.grid = begun[-1] if begun else self.stairs[-1][1]
        for part in [*self._steps, *(hook for hook, _ in self._inputs.values()), *(rows for rows, _, _ in self._rows)]:
            part.enabled = self.on
        for part in self._staged:
            part.grid = self.grid

    def on_grid(self, model: PreTrainedModel) -> dict[str, tuple[Grid, int]]:
        """The weights that are quantized, by their name in a model of these modules: the grid, the axis of outputs."""
        found = {name: self._found[module] for name, module in model.named_modules() if module in self._found}
        return {f"{name}.weight": (step.grid, step.axis) for name, step in found.items()}

    def rounded(self, model: PreTrainedModel) -> list[str]:
        """The layers whose inputs are rounded, by their name in a model of these modules."""
        return [name for name, module in model.named_modules() if module in self._inputs]

    def settle(self) -> None:
        """After training: moves the quantization of looked-up rows to whole tables, so that they can be folded."""
        for rows, handle, step in self._rows:
            handle.remove()
            step.enabled = rows.enabled

    def detach_inputs(self) -> None:
        """Takes the hooks on the inputs off; the weights are folded elsewhere."""
        for _, handle in self._inputs.values():
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
