"""Pruning by what the layers read: a weight matters as much as what it is multiplied with.

Inputs are gathered in the last ``batches`` optimizer steps before masks are renewed, at the positions that are not
padding, and summed over the ranks.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prune_schedules.schedule import Timeline
from prune_schedules.scores.pruner import Pruner
from students.families.families import is_recurrent
from students.processes import added
from students.recording.reading import positions
from students.structure.units import Units
from students.weights import latent

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Reading(Pruner):
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
    def gathered(self, inputs: Tensor) -> Tensor:
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
        self._positions = [positions(model)[reader] for reader in self._readers]
        self._hooks: list[RemovableHandle] = []
        self._fresh: dict[nn.Module, Tensor] = {}
        self.seen: dict[nn.Module, Tensor] = {}

    def listens(self, step: int, timeline: Timeline) -> bool:
        """Whether inputs are gathered at a step: all layers must run in it."""
        return self.listens_next(step, timeline) == step

    def listens_next(self, step: int, timeline: Timeline) -> int | None:
        """Return the first step from this one on at which inputs are gathered; None if there is no other."""
        start, stop, period = self._window(timeline)
        coming = start if step < start else min(stop, start + ((step - start) // period + 1) * period)
        return max(step, coming - self.batches) if step < coming else None

    def before_forward(self, step: int, timeline: Timeline, batch: dict[str, Tensor]) -> None:
        """Listen to the layers if new masks are near."""
        super().before_forward(step, timeline, batch)
        self._stop_listening()
        if not self.listens(step, timeline):
            return
        mask = batch["attention_mask"].bool() & ("idle" not in batch)
        # A decoder reads the same text, unless it has one of its own.
        valid = {"encoder": mask, "decoder": batch.get("decoder_attention_mask", mask).bool() & ("idle" not in batch)}
        for reader, stack in zip(self._readers, self._positions, strict=True):
            self._hooks.append(reader.register_forward_pre_hook(self._listen(valid[stack])))

    def _listen(self, valid: Tensor):
        def hook(reader: nn.Module, inputs: tuple[Tensor]) -> None:
            if not reader.training:  # a validation between two batches of one step
                return
            rows = inputs[0].detach()[valid]
            fresh = self.gathered(rows.to(torch.promote_types(rows.dtype, torch.float32)))
            self._fresh[reader] = self._fresh.get(reader, 0.0) + fresh

        return hook

    def before_step(self, step: int, timeline: Timeline) -> None:
        """Add what was gathered on all ranks, and stop listening."""
        super().before_step(step, timeline)
        self._stop_listening()
        for reader, fresh in self._fresh.items():
            fresh = added(fresh)
            self.seen[reader] = self.of(reader) + fresh if reader in self.seen else fresh
        self._fresh = {}

    def _stop_listening(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def renew(self, share: float) -> None:
        """Mask this share, and forget what the masks were made of."""
        super().renew(share)
        self.seen = {}

    def of(self, reader: nn.Module) -> Tensor:
        """What was gathered of one layer, where its weight is now: it was loaded before the model was moved."""
        return self.seen[reader].to(latent(reader).device)

    def state(self) -> dict[str, list[Tensor]]:
        """What was gathered."""
        return {"seen": [self.seen[reader] for reader in self._readers]} if self.seen else {}

    def load_state(self, state: dict[str, list[Tensor]]) -> None:
        """Take it up."""
        self.seen = dict(zip(self._readers, state["seen"], strict=True))
