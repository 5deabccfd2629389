"""Pruning by activations: scores from the inputs of the layers.

Inputs are collected in the last ``batches`` optimizer steps before masks are updated, at the positions that are not
padding, and summed over the ranks.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prune_schedules.schedule import Timeline
from prune_schedules.scores.pruner import Pruner
from students.families.families import own_kind
from students.processes import all_reduce_sum
from students.recording.input_grams import stack_by_module
from students.structure.units import Units

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class ActivationScored(Pruner):
    """A pruner that ranks by statistics of the inputs of layers."""

    reads_inputs: ClassVar[bool] = True
    reads_routers: ClassVar[bool] = False
    """Whether it collects what routers send to experts instead."""

    batches: int = 16
    """The optimizer steps before an update of the masks in which inputs are collected."""

    def __post_init__(self):
        super().__post_init__()
        if self.shape == "hidden":
            raise ValueError("shape: hidden dimensions are read by all layers, scores from inputs are of one layer")
        if self.shape == "experts" and not self.reads_routers:
            raise ValueError(
                "shape: inputs are collected of linear layers, not of experts; kind: Routing ranks experts"
            )
        if self.batches < 1:
            raise ValueError(f"batches: must be at least 1, not {self.batches}")
        if set(self.where) & {"embeddings", "head"}:
            raise ValueError("where: inputs are collected in attention and ffn only")

    @abstractmethod
    def collect(self, inputs: Tensor) -> Tensor:
        """Return the statistics of one batch, from the inputs [positions, in] of a layer."""

    def find(self, model: PreTrainedModel) -> list[nn.Module] | list[Units]:
        """Find what can be removed; nothing of a recurrent network or a static model.

        Raises:
            ValueError: as in ``Pruner``, and if the model has no layers whose inputs are collected.
        """
        if own := own_kind(model.config):
            raise ValueError(f"kind: {type(self).__name__} cannot collect the inputs of layers of a {own}")
        return super().find(model)

    def check(self, timeline: Timeline) -> None:
        """Check the schedules; nothing can be removed before a batch was collected."""
        super().check(timeline)
        if self._window(timeline)[0] == 0 and (initial := self.sparsity.value(0, timeline)) > 0:
            raise ValueError(f"sparsity: is {initial} at step 0, before a batch was collected")

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Add masks to the model, all disabled, with no statistics."""
        super().attach(model, seed)
        self._readers = [target.reader for target in self.targets]
        self._positions = [stack_by_module(model)[reader] for reader in self._readers]
        self._hooks: list[RemovableHandle] = []
        self._pending: dict[nn.Module, Tensor] = {}
        """The statistics of the current optimizer step on this rank."""
        self.statistics: dict[nn.Module, Tensor] = {}

    def is_active_at(self, step: int, timeline: Timeline) -> bool:
        """Return whether inputs are collected at a step: all layers must run in it."""
        start, stop, period = self._window(timeline)
        next_update = start if step < start else min(stop, start + ((step - start) // period + 1) * period)
        return 0 < next_update - step <= self.batches

    def active_steps(self, timeline: Timeline) -> list[range]:
        """Return the steps of ``is_active_at``: those before each update of the masks."""
        start, stop, period = self._window(timeline)
        return [range(max(0, step - self.batches), step) for step in (*range(start, stop, period), stop) if step > 0]

    def before_forward(self, step: int, timeline: Timeline, batch: dict[str, Tensor]) -> None:
        """Hook the layers if an update of the masks is near."""
        super().before_forward(step, timeline, batch)
        self._remove_hooks()
        if not self.is_active_at(step, timeline):
            return
        mask = batch["attention_mask"].bool() & ("idle" not in batch)
        # A decoder reads the same text, unless it has one of its own.
        valid = {"encoder": mask, "decoder": batch.get("decoder_attention_mask", mask).bool() & ("idle" not in batch)}
        for reader, stack in zip(self._readers, self._positions, strict=True):
            self._hooks.append(reader.register_forward_pre_hook(self._collector(valid[stack]), with_kwargs=True))

    def _collector(self, valid: Tensor):
        def hook(reader: nn.Module, inputs: tuple[Tensor], kwargs: dict) -> None:
            if not reader.training:  # a validation between two batches of one step
                return
            states = inputs[0].detach()
            states = states.unflatten(0, valid.shape) if states.ndim == 2 else states  # OPT's feed-forward
            rows = states[valid]
            statistics = self.collect(rows.to(torch.promote_types(rows.dtype, torch.float32)))
            self._pending[reader] = self._pending.get(reader, 0.0) + statistics

        return hook

    def before_optimizer_step(self, step: int, timeline: Timeline) -> None:
        """Add the statistics of all ranks, and remove the hooks."""
        super().before_optimizer_step(step, timeline)
        self._remove_hooks()
        for reader, statistics in self._pending.items():
            statistics = all_reduce_sum(statistics)
            earlier = self.statistics_of(reader) if reader in self.statistics else None
            self.statistics[reader] = statistics if earlier is None else earlier + statistics
        self._pending = {}

    def _remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def update_masks(self, sparsity: float) -> None:
        """Mask the lowest scores, and reset the statistics."""
        super().update_masks(sparsity)
        self.statistics = {}

    def statistics_of(self, reader: nn.Module) -> Tensor:
        """Return the statistics of a layer on the device of its weight: they may be loaded before the model moves."""
        return self.statistics[reader].to(next(reader.parameters()).device)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return the statistics."""
        return {"statistics": [self.statistics[reader] for reader in self._readers]} if self.statistics else {}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Load the statistics."""
        self.statistics = dict(zip(self._readers, state["statistics"], strict=True))
