"""Quantization-aware training: fake quantization on every weight and activation that the target quantizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prune_schedules.schedule import START, Constant, Moment, Schedule, Timeline
from quant_aware.calibration.allot import Allot, choose, costs, traces
from quant_aware.calibration.gptq import gptq
from quant_aware.calibration.selection import grids_of, quantized
from quant_aware.quantizers.activations import Activations, FakeQuantInput, InputMemo
from quant_aware.quantizers.fake_quant import FakeQuant, FakeQuantRows, weight_axis
from quant_aware.quantizers.grids import Quantizer, Uniform
from students.recording.reading import collect_input_grams
from students.recurrent.layer import Held
from students.weights import add_step, latent, select, steps, steps_on, values

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Quantize:
    """Trains with the numerics of the deployed model (Jacob et al. 2018, arXiv 1712.05877; Q8BERT, arXiv 1910.06188).

    ``onnxruntime`` is its dynamic int8: weights per output channel, activations per tensor (or, if asked for, per
    token) from the range they have, embeddings included. ``packed`` is a file of our own for all grids: small, and no
    faster.

    Args:
        weights: the grid of the weights, a number being the bits of a ``Uniform`` one; or several, one after the other,
            as in ``{40%: 8, 60%: 4, 80%: {kind: Ternary}}``.
        mixed: grids of their own for weights by a pattern of their name in the student's file, the first that matches,
            as in ``{"*embeddings*": 8, "classifier.*": null}``; null leaves a weight alone.
        activations: how the inputs of linear layers are rounded, a number being bits; null leaves them alone.
        share: of the numbers of each weight, those that a step of training rounds, drawn anew each time; all are when
            the student is judged (quant-noise: Fan et al. 2020, arXiv 2004.07320).
        allot: bits on average, in the place of the same for all: each weight has 2 to those of ``weights``, most where
            rounding changes the loss most; what ``mixed`` names is not among them.
        target: whose numerics and file; if not given, ``onnxruntime`` where it can, else ``packed``.
        gptq: the batches of training rows by whose inputs weights are rounded when a grid that learns begins, so that
            what one spoils others make good; training goes on from there.
        start: the moment from which the student trains with them, where ``weights`` does not say it.
    """

    writes_float32: ClassVar[bool] = True
    """Whether its file is made of weights in float32."""

    weights: Quantizer | dict[str, Quantizer] = field(default_factory=Uniform)
    mixed: dict[str, Quantizer | None] = field(default_factory=dict)
    activations: Activations | None = field(default_factory=Activations)
    share: Schedule = Constant(1.0)
    gptq: int = 0
    allot: Allot | None = None
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
        self.in_turn = [grid for _, grid in self.stairs]
        self.grid = self.in_turn[-1]
        """In the end; while it trains, at present."""
        if self.gptq < 0:
            raise ValueError(f"gptq: a number of batches, not {self.gptq}")
        if self.gptq and not any(map(is_elementwise_learned, [*self.in_turn, *self.mixed.values()])):
            raise ValueError("gptq: needs a grid that learns a step or a table: {kind: Uniform, learn: true} or KMeans")
        if self.allot and not (isinstance(self.weights, Uniform) and self.weights.bits > self.allot.average):
            raise ValueError("allot: needs one grid, Uniform, of more bits than there are to be on average")
        plain = not self.allot and all(grid == Uniform() for grid in (self.grid, *self.mixed.values()))
        int8 = plain and self.activations in (Activations(), Activations(per="token", symmetric=True))
        if self.target == "onnxruntime" and not int8:
            why = "computes with 8 bits, weights uniform and per row, activations per tensor or symmetric per token"
            raise ValueError(f"target: onnxruntime {why}; leave it away, or name packed")
        self.target = self.target or ("onnxruntime" if int8 else "packed")

    @property
    def writes_packed(self) -> bool:
        """Whether its file is a packed one."""
        return self.target == "packed"

    @property
    def codes_pieces(self) -> bool:
        """Whether pieces of several numbers of all weights have one code."""
        return any(grid.in_pieces for grid in self.in_turn)

    @property
    def codes_some_pieces(self) -> bool:
        """The same of weights that ``mixed`` names."""
        return any(grid.in_pieces for grid in self.mixed.values() if grid)

    @property
    def groups_inputs(self) -> bool:
        """Whether neighbouring inputs of a weight share a fit."""
        return any(grid.groups_inputs for grid in (*self.in_turn, *self.mixed.values()) if grid)

    @property
    def allots_bits(self) -> bool:
        """Whether weights have bits of their own."""
        return self.allot is not None

    @property
    def rounds_by_inputs(self) -> bool:
        """Whether weights are rounded by the inputs of their layers."""
        return self.gptq > 0

    @property
    def precision(self) -> str:
        """What a file of these weights is called."""
        if self.target == "onnxruntime":
            return "int8"
        rates = sorted({grid.rate for grid in (self.in_turn[-1], *self.mixed.values()) if grid})
        if self.allot:
            return f"{min(2, *rates):g} to {max(rates):g}-bit"
        return f"{' and '.join(f'{rate:g}' for rate in rates)}-bit"

    def check(self, timeline: Timeline) -> None:
        """Looks through the schedule of the share.

        Raises:
            ValueError: if it is none at some step.
        """
        for step in self.share.extremes(timeline):
            if not 0 <= self.share.value(step, timeline) <= 1:
                raise ValueError(f"share: is {self.share.value(step, timeline)} at step {step}; it is 0 to 1")

    def windows(self, timeline: Timeline) -> list[tuple[Quantizer, int, int]]:
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
        return quantized(model, self.in_turn, self.mixed)

    def attach(self, model: PreTrainedModel) -> dict[str, str]:
        """Puts the steps on, switched off; returns what was skipped and why."""
        chosen, skipped = self.find(model)
        memo, self._rows = InputMemo(self.activations), []
        self._inputs: dict[nn.Module, tuple[FakeQuantInput, RemovableHandle]] = {}
        self._found: dict[nn.Module, FakeQuant] = {}
        self._staged: list[FakeQuant] = []
        fits: dict[int, nn.ParameterDict] = {}
        tokens = self.target == "onnxruntime" and self.activations.per == "token"
        recurrent = {*select(model, ["recurrence"])[0].values()} if tokens else set()
        for name, module in chosen.items():
            key, grids = grids_of(name, self.in_turn, self.mixed)
            step = self._found[module] = FakeQuant(grids, weight_axis(module))
            step.prepare(latent(module))
            # A table that is the head too is one weight, and learns once.
            step.fits = fits.setdefault(id(latent(module)), step.fits)
            add_step(module, step)
            if key == "weights":
                self._staged.append(step)
            if isinstance(module, nn.Embedding):
                if not any(map(_between_rows, grids)):
                    # In training only the rows that are looked up are quantized: it is the same, and a table of a
                    # vocabulary is far larger than a batch.
                    rows = FakeQuantRows(step)
                    self._rows.append((rows, module.register_forward_hook(rows, prepend=True), step))
            elif self.activations and (isinstance(module, Held) or module in recurrent):
                which = "no recurrent layer's for each token" if tokens else "those of plain LSTMs alone"
                skipped[name] = f"its inputs stay float32: ONNX Runtime rounds {which}"
            elif self.activations:
                hook = FakeQuantInput(memo)
                self._inputs[module] = hook, module.register_forward_pre_hook(hook)
        tables = {id(step) for _, _, step in self._rows}
        self._steps = [step for step in steps(model, FakeQuant).values() if id(step) not in tables]
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
                latent(module).copy_(torch.where(weight == 0, latent(module), rounded))

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
                users.setdefault(id(latent(module)), []).append(module)
        firsts = [modules[0] for modules in users.values()]
        self._switch(False)
        found = traces(loss, [latent(module) for module in firsts], batches)
        offered = [
            costs(self._beneath(module), self._found[module], trace)
            for module, trace in zip(firsts, found, strict=True)
        ]
        self._switch(True)
        chosen = choose(offered, [latent(module).numel() for module in firsts], self.allot.average)
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
        before = steps_on(module)[: steps_on(module).index(self._found[module])]
        return reduce(lambda weight, step: step(weight), before, values(module))

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


def is_elementwise_learned(grid: Quantizer | None) -> bool:
    """Return whether a quantizer learns, and rounds each number by itself."""
    return grid is not None and grid.learn and grid.is_elementwise
