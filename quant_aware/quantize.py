"""Quantization-aware training: fake quantization on every weight and activation that the target quantizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prune_schedules.schedule import Timeline
from quant_aware.calibration.allot import choose, costs, traces
from quant_aware.calibration.gptq import gptq
from quant_aware.calibration.selection import grids_of
from quant_aware.quantizers.activations import FakeQuantInput, InputMemo
from quant_aware.quantizers.fake_quant import FakeQuant, FakeQuantRows, weight_axis
from quant_aware.quantizers.grids import Quantizer
from quant_aware.settings import QuantizeSettings, is_elementwise_learned
from students.models.recurrent_layer import RecurrentKernel
from students.recording.input_grams import collect_input_grams
from students.weights import (
    add_weight_transform,
    find_weight_transforms,
    full_parameter,
    get_weight_transforms,
    raw_parameter,
    select_modules,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Quantize(QuantizeSettings):
    """Trains with the numerics of the deployed model (Jacob et al. 2018, arXiv 1712.05877; Q8BERT, arXiv 1910.06188).

    ``onnxruntime`` is its dynamic int8: weights per output channel, activations per tensor (or, if asked for, per
    token) from the range they have, embeddings included. ``packed`` is a file of our own for all grids: small, and no
    faster.
    """

    def attach(self, model: PreTrainedModel) -> dict[str, str]:
        """Puts the steps on, switched off; returns what was skipped and why."""
        chosen, skipped = self.find(model)
        memo, self._rows = InputMemo(self.activations), []
        self._inputs: dict[nn.Module, tuple[FakeQuantInput, RemovableHandle]] = {}
        self._found: dict[nn.Module, FakeQuant] = {}
        self._staged: list[FakeQuant] = []
        fits: dict[int, nn.ParameterDict] = {}
        tokens = self.target == "onnxruntime" and self.activations.per == "token"
        recurrent = {*select_modules(model, ["recurrence"])[0].values()} if tokens else set()
        for name, module in chosen.items():
            key, grids = grids_of(name, self.in_turn, self.mixed)
            step = self._found[module] = FakeQuant(grids, weight_axis(module))
            step.prepare(raw_parameter(module))
            # A table that is the head too is one weight, and learns once.
            step.fits = fits.setdefault(id(raw_parameter(module)), step.fits)
            add_weight_transform(module, step)
            if key == "weights":
                self._staged.append(step)
            if isinstance(module, nn.Embedding):
                if not any(map(_between_rows, grids)):
                    # In training only the rows that are looked up are quantized: it is the same, and a table of a
                    # vocabulary is far larger than a batch.
                    rows = FakeQuantRows(step)
                    self._rows.append((rows, module.register_forward_hook(rows, prepend=True), step))
            elif self.activations and (isinstance(module, RecurrentKernel) or module in recurrent):
                which = "no recurrent layer's for each token" if tokens else "those of plain LSTMs alone"
                skipped[name] = f"its inputs stay float32: ONNX Runtime rounds {which}"
            elif self.activations:
                hook = FakeQuantInput(memo)
                self._inputs[module] = hook, module.register_forward_pre_hook(hook)
        tables = {id(step) for _, _, step in self._rows}
        self._steps = [step for step in find_weight_transforms(model, FakeQuant).values() if id(step) not in tables]
        return skipped

    def update(self, step: int, timeline: Timeline) -> None:
        """Switches to the grid of a step, a pure function of it."""
        begun = sum(step >= start for _, start, _ in self.windows(timeline))
        self.on, self.stage = begun > 0, begun - 1 if begun else len(self.stairs) - 1
        self.grid = self.in_turn[self.stage]
        self._switch(self.on)
        for part in self._staged:
            part.stage = self.stage
        for part in self._found.values():
            part.share = self.share.value(step, timeline)

    def _switch(self, on: bool) -> None:
        for part in [*self._steps, *(hook for hook, _ in self._inputs.values()), *(rows for rows, _, _ in self._rows)]:
            part.enabled = on

    def idle(self) -> list[nn.Parameter]:
        """What grids learn that are not on."""
        found = self._found.values()
        return [
            qparams for part in found for stage, qparams in part.fits.items() if not self.on or stage != str(part.stage)
        ]

    @torch.no_grad()
    def calibrate(self, model: PreTrainedModel, was_on: bool, batches: Iterable[dict[str, Tensor]] = ()) -> None:
        """Has the grids that learn, and that the student has just been switched to, look at its weights as they are,
        and moves these if ``gptq`` says so.

        Args:
            model: the student.
            was_on: whether there was another grid before.
            batches: whose inputs are looked at.
        """
        chosen = {module: step for module, step in self._found.items() if step in self._staged or not was_on}
        found = {}
        if self.gptq:
            self._switch(False)  # what layers read while nothing is rounded
            found = collect_input_grams(
                model, [module for module, step in chosen.items() if is_elementwise_learned(step.grid)], batches
            )
            self._switch(True)
        for module, step in chosen.items():
            weight = self._beneath(module)
            step.calibrate(weight)
            if module in found:
                rows = weight.movedim(step.axis, 0)
                qparams = step.fits[str(step.stage)].view(len(step.grid.divide(weight, step.axis)), -1)
                rounded = gptq(rows, found[module], step.grid, qparams).movedim(0, step.axis)
                raw_parameter(module).copy_(torch.where(weight == 0, raw_parameter(module), rounded))

    def allot_bits(
        self,
        model: PreTrainedModel,
        loss: Callable[[dict[str, Tensor]], Tensor],
        batches: Iterable[dict[str, Tensor]],
    ) -> dict[str, int]:
        """Chooses the bits of each weight as ``allot`` says, and gives them by the names of the weights.

        Args:
            model: the student.
            loss: of a batch, the same each time it is asked.
            batches: by which the loss is looked at.
        """
        names = {module: name for name, module in model.named_modules()}
        users: dict[int, list[nn.Module]] = {}
        for module, step in self._found.items():
            if step in self._staged:
                users.setdefault(id(raw_parameter(module)), []).append(module)
        firsts = [modules[0] for modules in users.values()]
        self._switch(False)
        found = traces(loss, [raw_parameter(module) for module in firsts], batches)
        offered = [
            costs(self._beneath(module), self._found[module], trace)
            for module, trace in zip(firsts, found, strict=True)
        ]
        self._switch(True)
        chosen = choose(offered, [raw_parameter(module).numel() for module in firsts], self.allot.average)
        bits = {
            f"{names[module]}.weight": width
            for modules, width in zip(users.values(), chosen, strict=True)
            for module in modules
        }
        self.set_bits(model, bits)
        return bits

    def set_bits(self, model: PreTrainedModel, bits: dict[str, int]) -> None:
        """Gives weights of ``model`` grids of these bits, by name."""
        for name, width in bits.items():
            step = self._found[model.get_submodule(name.removesuffix(".weight"))]
            step.grids = [replace(grid, bits=width) for grid in step.grids]

    def _beneath(self, module: nn.Module) -> Tensor:
        """A weight, whole, as the steps before the grid leave it."""
        before = get_weight_transforms(module)[: get_weight_transforms(module).index(self._found[module])]
        return reduce(lambda weight, step: step(weight), before, full_parameter(module))

    def on_grid(self, model: PreTrainedModel) -> dict[str, tuple[Quantizer, int]]:
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


def _between_rows(grid: Quantizer) -> bool:
    """Whether the rows of a table cannot be brought to a grid without the others, or without knowing which they are."""
    if grid.learn:
        return not (grid.per == "tensor" or grid.in_pieces)
    return grid.per == "tensor"
