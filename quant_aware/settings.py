"""What quantization-aware training is told: which quantizers, of which weights, when, for which file."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import nn

from prune_schedules.schedule import START, Constant, Schedule, Timeline, TimePoint
from quant_aware.calibration.allot import Allot
from quant_aware.calibration.selection import quantized
from quant_aware.quantizers.activations import Activations
from quant_aware.quantizers.grids import Quantizer, Uniform

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class QuantizeSettings:
    """The settings of ``Quantize``, and what follows from them alone.

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
    start: TimePoint = START

    def __post_init__(self):
        if isinstance(self.weights, dict):
            if not self.weights:
                raise ValueError("weights: needs at least one moment")
            if self.start != START:
                raise ValueError("start: the first moment of weights is the start")
            self.stairs = [(TimePoint(text), grid) for text, grid in self.weights.items()]
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


def is_elementwise_learned(grid: Quantizer | None) -> bool:
    """Return whether a quantizer learns, and rounds each number by itself."""
    return grid is not None and grid.learn and grid.is_elementwise
