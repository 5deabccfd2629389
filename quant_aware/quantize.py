"""Quantization-aware training: fake quantization of all weights and activations that the target quantizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prune_schedules.schedule import Timeline
from quant_aware.calibration.bit_allocation import allocate, hessian_traces, quantization_costs
from quant_aware.calibration.gptq import gptq
from quant_aware.calibration.selection import quantizers_of
from quant_aware.quantizers.activations import FakeQuantInput, InputCache
from quant_aware.quantizers.fake_quant import FakeQuant, FakeQuantRows, weight_axis
from quant_aware.quantizers.quantizer import Quantizer
from quant_aware.settings import QuantizeSettings, is_elementwise_learned
from students.models.recurrent_layer import RecurrentKernel
from students.recording.input_grams import collect_input_grams
from students.structure.places import select_modules
from students.weights import (
    add_weight_transform,
    find_weight_transforms,
    full_parameter,
    get_weight_transforms,
    raw_parameter,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Quantize(QuantizeSettings):
    """Trains with the numerics of the deployed model (Jacob et al. 2018, arXiv 1712.05877; Q8BERT, arXiv 1910.06188).

    ``onnxruntime`` is its dynamic int8: weights per output channel, activations per tensor (or, if configured, per
    token) by their current range, embeddings included. ``packed`` is a file format of this library for all quantizers:
    small, and no faster.
    """

    def attach(self, model: PreTrainedModel) -> dict[str, str]:
        """Add fake quantization to the model, disabled.

        Returns:
            By name of a module, the reason why it is not quantized.
        """
        selected, skipped = self.find(model)
        cache, self._row_hooks = InputCache(self.activations), []
        self._input_hooks: dict[nn.Module, tuple[FakeQuantInput, RemovableHandle]] = {}
        self._fake_quants: dict[nn.Module, FakeQuant] = {}
        self._staged: list[FakeQuant] = []
        qparams_by_weight: dict[int, nn.ParameterDict] = {}
        per_token = self.target == "onnxruntime" and self.activations.granularity == "token"
        recurrent = {*select_modules(model, ["recurrence"])[0].values()} if per_token else set()
        for name, module in selected.items():
            key, quantizers = quantizers_of(name, self.quantizers, self.overrides)
            fake_quant = self._fake_quants[module] = FakeQuant(quantizers, weight_axis(module))
            fake_quant.add_qparams(raw_parameter(module))
            # An embedding that is tied to the head is one weight, with one set of qparams.
            fake_quant.learned_qparams = qparams_by_weight.setdefault(
                id(raw_parameter(module)), fake_quant.learned_qparams
            )
            add_weight_transform(module, fake_quant)
            if key == "weights":
                self._staged.append(fake_quant)
            if isinstance(module, nn.Embedding):
                if not any(map(_needs_all_rows, quantizers)):
                    # In training only the rows that are looked up are quantized: the result is the same, and an
                    # embedding is far larger than a batch.
                    rows = FakeQuantRows(fake_quant)
                    self._row_hooks.append((rows, module.register_forward_hook(rows, prepend=True), fake_quant))
            elif self.activations and (isinstance(module, RecurrentKernel) or module in recurrent):
                supported = "per tensor only" if per_token else "of plain LSTMs only"
                skipped[name] = f"its inputs stay float32: ONNX Runtime quantizes recurrent inputs {supported}"
            elif self.activations:
                hook = FakeQuantInput(cache)
                self._input_hooks[module] = hook, module.register_forward_pre_hook(hook)
        by_row = {id(fake_quant) for _, _, fake_quant in self._row_hooks}
        self._full_fake_quants = [
            step for step in find_weight_transforms(model, FakeQuant).values() if id(step) not in by_row
        ]
        return skipped

    def update(self, step: int, timeline: Timeline) -> None:
        """Switch to the stage of a step, a pure function of the step."""
        started = sum(step >= start for _, start, _ in self.windows(timeline))
        self.enabled, self.current_stage = started > 0, started - 1 if started else len(self.stages) - 1
        self.quantizer = self.quantizers[self.current_stage]
        self._set_enabled(self.enabled)
        for fake_quant in self._staged:
            fake_quant.current_stage = self.current_stage
        for fake_quant in self._fake_quants.values():
            fake_quant.quant_noise = self.quant_noise.value(step, timeline)

    def _set_enabled(self, enabled: bool) -> None:
        hooks = [*(hook for hook, _ in self._input_hooks.values()), *(rows for rows, _, _ in self._row_hooks)]
        for fake_quant in [*self._full_fake_quants, *hooks]:
            fake_quant.enabled = enabled

    def inactive_qparams(self) -> list[nn.Parameter]:
        """Return the learned qparams of the stages that are not the current one."""
        return [
            qparams
            for fake_quant in self._fake_quants.values()
            for stage, qparams in fake_quant.learned_qparams.items()
            if not self.enabled or stage != str(fake_quant.current_stage)
        ]

    @torch.no_grad()
    def calibrate(self, model: PreTrainedModel, was_enabled: bool, batches: Iterable[dict[str, Tensor]] = ()) -> None:
        """Initialize the learned qparams of the current stage from the weights; with ``gptq``, round these as well.

        Args:
            model: the student.
            was_enabled: whether there was a stage before this one.
            batches: training batches for GPTQ.
        """
        started = {m: step for m, step in self._fake_quants.items() if step in self._staged or not was_enabled}
        grams = {}
        if self.gptq:
            self._set_enabled(False)  # GPTQ needs the inputs of the layers without quantization
            modules = [module for module, step in started.items() if is_elementwise_learned(step.quantizer)]
            grams = collect_input_grams(model, modules, batches)
            self._set_enabled(True)
        for module, fake_quant in started.items():
            weight = self._unquantized(module)
            fake_quant.calibrate(weight)
            if module in grams:
                rows, quantizer = weight.movedim(fake_quant.axis, 0), fake_quant.quantizer
                qparams = fake_quant.learned_qparams[str(fake_quant.current_stage)]
                qparams = qparams.view(len(quantizer.to_groups(weight, fake_quant.axis)), -1)
                quantized = gptq(rows, grams[module], quantizer, qparams).movedim(0, fake_quant.axis)
                raw_parameter(module).copy_(torch.where(weight == 0, raw_parameter(module), quantized))

    def allocate_bits(
        self,
        model: PreTrainedModel,
        loss: Callable[[dict[str, Tensor]], Tensor],
        batches: Iterable[dict[str, Tensor]],
    ) -> dict[str, int]:
        """Allocate the bits of each weight by ``bit_allocation``, and return them by the names of the weights.

        Args:
            model: the student.
            loss: of a batch, deterministic.
            batches: by which the Hessian is estimated.
        """
        names = {module: name for name, module in model.named_modules()}
        users: dict[int, list[nn.Module]] = {}
        for module, fake_quant in self._fake_quants.items():
            if fake_quant in self._staged:
                users.setdefault(id(raw_parameter(module)), []).append(module)
        modules = [tied[0] for tied in users.values()]
        self._set_enabled(False)
        traces = hessian_traces(loss, [raw_parameter(module) for module in modules], batches)
        costs = [
            quantization_costs(self._unquantized(module), self._fake_quants[module], trace)
            for module, trace in zip(modules, traces, strict=True)
        ]
        self._set_enabled(True)
        sizes = [raw_parameter(module).numel() for module in modules]
        allocated = allocate(costs, sizes, self.bit_allocation.average_bits)
        bits = {
            f"{names[module]}.weight": weight_bits
            for tied, weight_bits in zip(users.values(), allocated, strict=True)
            for module in tied
        }
        self.set_bits(model, bits)
        return bits

    def set_bits(self, model: PreTrainedModel, bits: dict[str, int]) -> None:
        """Set the bits of the quantizers of weights, by their names in ``model``."""
        for name, weight_bits in bits.items():
            fake_quant = self._fake_quants[model.get_submodule(name.removesuffix(".weight"))]
            fake_quant.quantizers = [replace(quantizer, bits=weight_bits) for quantizer in fake_quant.quantizers]

    def _unquantized(self, module: nn.Module) -> Tensor:
        """Return the full weight with the parametrizations before quantization applied."""
        before = get_weight_transforms(module)[: get_weight_transforms(module).index(self._fake_quants[module])]
        return reduce(lambda weight, step: step(weight), before, full_parameter(module))

    def quantized_weights(self, model: PreTrainedModel) -> dict[str, tuple[Quantizer, int]]:
        """Return the quantizer and the output axis of each quantized weight, by its name in ``model``."""
        modules = {name: module for name, module in model.named_modules() if module in self._fake_quants}
        fake_quants = {name: self._fake_quants[module] for name, module in modules.items()}
        return {f"{name}.weight": (step.quantizer, step.axis) for name, step in fake_quants.items()}

    def quantized_inputs(self, model: PreTrainedModel) -> list[str]:
        """Return the layers whose inputs are quantized, by their names in ``model``."""
        return [name for name, module in model.named_modules() if module in self._input_hooks]

    def quantize_full_embeddings(self) -> None:
        """After training: quantize whole embeddings instead of looked-up rows, so that they can be folded."""
        for rows, handle, fake_quant in self._row_hooks:
            handle.remove()
            fake_quant.enabled = rows.enabled

    def remove_input_hooks(self) -> None:
        """Remove the hooks on the inputs; the weights are folded elsewhere."""
        for _, handle in self._input_hooks.values():
            handle.remove()


def _needs_all_rows(quantizer: Quantizer) -> bool:
    """Return whether looked-up rows cannot be quantized without the other rows, or without their indices."""
    if quantizer.learn:
        return not (quantizer.granularity == "tensor" or quantizer.is_vector_quantizer)
    return quantizer.granularity == "tensor"
