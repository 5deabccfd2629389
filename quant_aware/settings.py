"""The settings of quantization-aware training: quantizers, their weights, when, and the file that is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import nn

from prune_schedules.schedule import START, Constant, Schedule, Timeline, TimePoint
from quant_aware.calibration.bit_allocation import BitAllocation
from quant_aware.calibration.selection import select_quantized
from quant_aware.quantizers.activations import ActivationQuantizer
from quant_aware.quantizers.quantizer import Quantizer
from quant_aware.quantizers.uniform import Uniform

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class QuantizeSettings:
    """The settings of ``Quantize``, and what follows from them alone.

    Args:
        weights: the quantizer of the weights, a number being the bits of a ``Uniform`` one; or one for each of several
            stages, as in ``{40%: 8, 60%: 4, 80%: {kind: Ternary}}``.
        overrides: quantizers by a pattern of the weight's name in the student's file, the first that matches,
            as in ``{"*embeddings*": 8, "classifier.*": null}``; null leaves a weight in float32.
        activations: the quantizer of the inputs of linear layers, a number being bits; null leaves them in float32.
        quant_noise: the probability that an entry of a weight is quantized in a training step, drawn at each; in
            evaluation all are (quant-noise: Fan et al. 2020, arXiv 2004.07320).
        bit_allocation: average bits, instead of the same bits for all weights: each weight has 2 to the bits of
            ``weights``, most where quantization changes the loss most; weights in ``overrides`` are not counted.
        target: the numerics and the file; if not given, ``onnxruntime`` where it can, else ``packed``.
        gptq: the number of training batches for GPTQ, which rounds the weights at the step where a quantizer with
            learned qparams is enabled and compensates the errors; training goes on from there.
        start: the time point from which the student trains quantized, where ``weights`` has no stages.
    """

    writes_float32: ClassVar[bool] = True
    """Whether its file is made of weights in float32."""

    weights: Quantizer | dict[str, Quantizer] = field(default_factory=Uniform)
    overrides: dict[str, Quantizer | None] = field(default_factory=dict)
    activations: ActivationQuantizer | None = field(default_factory=ActivationQuantizer)
    quant_noise: Schedule = Constant(1.0)
    gptq: int = 0
    bit_allocation: BitAllocation | None = None
    target: Literal["onnxruntime", "packed"] | None = None
    start: TimePoint = START

    def __post_init__(self):
        if isinstance(self.weights, dict):
            if not self.weights:
                raise ValueError("weights: needs at least one time point")
            if self.start != START:
                raise ValueError("start: leave it out; the first time point of weights is the start")
            self.stages = [(TimePoint(text), quantizer) for text, quantizer in self.weights.items()]
        else:
            self.stages = [(self.start, self.weights)]
        self.quantizers = [quantizer for _, quantizer in self.stages]
        self.quantizer = self.quantizers[-1]
        """The quantizer of the current stage; before training, that of the last."""
        if self.gptq < 0:
            raise ValueError(f"gptq: must be a number of batches, not {self.gptq}")
        if self.gptq and not any(map(is_elementwise_learned, [*self.quantizers, *self.overrides.values()])):
            raise ValueError(
                "gptq: needs a quantizer with a learned scale or codebook: {kind: Uniform, learn: true} or KMeans"
            )
        allocation = self.bit_allocation
        if allocation and not (isinstance(self.weights, Uniform) and self.weights.bits > allocation.average_bits):
            raise ValueError("bit_allocation: needs weights to be one Uniform quantizer of more bits than average_bits")
        is_int8 = not allocation and all(q == Uniform() for q in (self.quantizer, *self.overrides.values()))
        runs_in_ort = is_int8 and self.activations in (
            ActivationQuantizer(),
            ActivationQuantizer(granularity="token", symmetric=True),
        )
        if self.target == "onnxruntime" and not runs_in_ort:
            needs = "8 bits, weights Uniform per row, activations per tensor or symmetric per token"
            raise ValueError(f"target: onnxruntime needs {needs}; leave it out, or write packed")
        self.target = self.target or ("onnxruntime" if runs_in_ort else "packed")

    @property
    def writes_packed(self) -> bool:
        """Return whether its file is a packed one."""
        return self.target == "packed"

    @property
    def codes_vectors(self) -> bool:
        """Return whether one code stands for several neighbouring entries of every weight."""
        return any(quantizer.is_vector_quantizer for quantizer in self.quantizers)

    @property
    def codes_some_vectors(self) -> bool:
        """Return whether one code stands for several neighbouring entries of the weights in ``overrides``."""
        return any(quantizer.is_vector_quantizer for quantizer in self.overrides.values() if quantizer)

    @property
    def groups_inputs(self) -> bool:
        """Return whether neighbouring inputs of a weight share qparams."""
        return any(q.groups_inputs for q in (*self.quantizers, *self.overrides.values()) if q)

    @property
    def allocates_bits(self) -> bool:
        """Return whether each weight has its own bits."""
        return self.bit_allocation is not None

    @property
    def uses_gptq(self) -> bool:
        """Return whether weights are rounded by GPTQ."""
        return self.gptq > 0

    @property
    def precision(self) -> str:
        """Return the name of the precision in reports, as ``int8`` or ``4-bit``."""
        if self.target == "onnxruntime":
            return "int8"
        bits = sorted({q.bits_per_weight for q in (self.quantizers[-1], *self.overrides.values()) if q})
        if self.bit_allocation:
            return f"{min(2, *bits):g} to {max(bits):g}-bit"
        return f"{' and '.join(f'{number:g}' for number in bits)}-bit"

    def check(self, timeline: Timeline) -> None:
        """Check the schedule of the quantization noise.

        Raises:
            ValueError: if it is not a probability at some step.
        """
        for step in self.quant_noise.extremes(timeline):
            if not 0 <= (value := self.quant_noise.value(step, timeline)) <= 1:
                raise ValueError(f"quant_noise: is {value} at step {step}; it must be a probability, from 0 to 1")

    def windows(self, timeline: Timeline) -> list[tuple[Quantizer, int, int]]:
        """Return each quantizer with the steps at which its stage begins and ends.

        Raises:
            ValueError: if a time point lies outside the run, or not after the one before it.
        """
        starts = [point.step(timeline) for point, _ in self.stages]
        for (previous, start), (point, _) in zip(pairwise(starts), self.stages[1:], strict=True):
            if start <= previous:
                raise ValueError(f"weights: {point} is step {start}, not after the stage before it at step {previous}")
        stops = [*starts[1:], timeline.total_steps]
        return [(quantizer, *steps) for (_, quantizer), *steps in zip(self.stages, starts, stops, strict=True)]

    def find(self, model: PreTrainedModel) -> tuple[dict[str, nn.Module], dict[str, str]]:
        """Return the modules whose weight is quantized, by name, and the reason for each that is not.

        Raises:
            ValueError: if a weight does not divide into the groups of its quantizer, or a pattern matches none.
        """
        return select_quantized(model, self.quantizers, self.overrides)


def is_elementwise_learned(quantizer: Quantizer | None) -> bool:
    """Return whether a quantizer has learned qparams and rounds each weight by itself."""
    return quantizer is not None and quantizer.learn and quantizer.is_elementwise
