"""Pruning by what the layers read: a weight matters as much as what it is multiplied with.

Inputs are gathered in the last ``batches`` optimizer steps before masks are renewed, at the positions that are not
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
from students.families.families import is_recurrent
from students.processes import all_reduce_sum
from students.recording.input_grams import stack_by_module
from students.structure.units import Units
from students.weights import raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class ActivationScored(Pruner):
    """Ranks by what layers read."""

    reads_inputs: ClassVar[bool] = True

    batches: int = 16
    """The optimizer steps before new masks in which inputs are gathered."""

    def __post_init__(self):
        super().__post_init__()
        if self.shape == "hidden":
            raise ValueError("shape: hidden dimensions are read by all layers, and scores by what is read are of one")
        if self.batches < 1:
            raise ValueError(f"batches: must be at least 1, not {self.batches}")
        if set(self.where) & {"embeddings", "head"}:
            raise ValueError("where: what is read is known of attention and ffn only")

    @abstractmethod
    def collect(self, inputs: Tensor) -> Tensor:
        """What one batch adds, of the inputs [positions, in] of a layer."""

    def find(self, model: PreTrainedModel) -> list[nn.Module] | list[Units]:
        """What there is to remove; nothing of a recurrent network.

        Raises:
            ValueError: as ever, and if the model is one.
        """
        if is_recurrent(model.config):
            raise ValueError("kind: a recurrent layer reads its own states one by one, and is not listened to")
        return super().find(model)

    def check(self, timeline: Timeline) -> None:
        """Look through the schedule; nothing can be removed before a batch was seen."""
        super().check(timeline)
        if self._window(timeline)[0] == 0 and self.sparsity.value(0, timeline) > 0:
            raise ValueError(f"sparsity: is {self.sparsity.value(0, timeline)} at once, before a batch was seen")

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Put masks on the model, all off, and begin with nothing seen."""
        super().attach(model, seed)
        self._readers = [part.reader for part in self.parts]
        self._positions = [stack_by_module(model)[reader] for reader in self._readers]
        self._hooks: list[RemovableHandle] = []
        self._fresh: dict[nn.Module, Tensor] = {}
        self.seen: dict[nn.Module, Tensor] = {}

    def active_at(self, step: int, timeline: Timeline) -> bool:
        """Whether inputs are gathered at a step: all layers must run in it."""
        start, stop, period = self._window(timeline)
        coming = start if step < start else min(stop, start + ((step - start) // period + 1) * period)
        return 0 < coming - step <= self.batches

    def active_steps(self, timeline: Timeline) -> list[range]:
        """Return the steps of ``active_at``: those before each time at which masks are renewed."""
        start, stop, period = self._window(timeline)
        return [range(max(0, step - self.batches), step) for step in (*range(start, stop, period), stop) if step > 0]

    def before_forward(self, step: int, timeline: Timeline, batch: dict[str, Tensor]) -> None:
        """Listen to the layers if new masks are near."""
        super().before_forward(step, timeline, batch)
        self._remove_hooks()
        if not self.active_at(step, timeline):
            return
        mask = batch["attention_mask"].bool() & ("idle" not in batch)
        # A decoder reads the same text, unless it has one of its own.
        valid = {"encoder": mask, "decoder": batch.get("decoder_attention_mask", mask).bool() & ("idle" not in batch)}
        for reader, stack in zip(self._readers, self._positions, strict=True):
            self._hooks.append(reader.register_forward_pre_hook(self._collector(valid[stack])))

    def _collector(self, valid: Tensor):
        def hook(reader: nn.Module, inputs: tuple[Tensor]) -> None:
            if not reader.training:  # a validation between two batches of one step
                return
            rows = inputs[0].detach()[valid]
            fresh = self.collect(rows.to(torch.promote_types(rows.dtype, torch.float32)))
            self._fresh[reader] = self._fresh.get(reader, 0.0) + fresh

        return hook

    def before_step(self, step: int, timeline: Timeline) -> None:
        """Add what was gathered on all ranks, and stop listening."""
        super().before_step(step, timeline)
        self._remove_hooks()
        for reader, fresh in self._fresh.items():
            fresh = all_reduce_sum(fresh)
            self.seen[reader] = self.of(reader) + fresh if reader in self.seen else fresh
        self._fresh = {}

    def _remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def renew(self, share: float) -> None:
        """Mask this share, and forget what the masks were made of."""
        super().renew(share)
        self.seen = {}

    def of(self, reader: nn.Module) -> Tensor:
        """What was gathered of one layer, where its weight is now: it was loaded before the model was moved."""
        return self.seen[reader].to(raw_parameter(reader).device)

    def state(self) -> dict[str, list[Tensor]]:
        """What was gathered."""
        return {"seen": [self.seen[reader] for reader in self._readers]} if self.seen else {}

    def load_state(self, state: dict[str, list[Tensor]]) -> None:
        """Take it up."""
        self.seen = dict(zip(self._readers, state["seen"], strict=True))
