"""The experts of a block as a prune target."""

from __future__ import annotations

import torch
from torch import Tensor

from prune_schedules.targets.mask import Mask
from prune_schedules.targets.routers import attach_router, detach_router
from prune_schedules.targets.units import UnitTarget
from students.structure.units import Slice, Units
from students.weights import get_weight_transforms


class ExpertTarget(UnitTarget):
    """The experts of one block, with masks on all parameters of an expert, and a router that hides masked ones.

    A hidden expert is chosen for no token, and the others share its tokens, as after it has been cut out. It stays
    hidden in a step that accumulates gradients: so it has none.

    Args:
        units: the experts, with their rows of the router first.
    """

    def __init__(self, units: Units):
        super().__init__(units, max(1, units.fewest))
        self.router = attach_router(units)

    def keep(self, kept: Tensor) -> None:
        """Mask all experts but the ``kept`` ones (bool [count])."""
        super().keep(kept)
        transforms = get_weight_transforms(*self.parameters[0])
        masks = [step.mask.flatten() for step in transforms if isinstance(step, Mask)]
        self.router.keep(torch.stack(masks).all(dim=0))

    def detach(self, remaining: int) -> None:
        """Remove the masks, because all but ``remaining`` experts are about to be cut out."""
        detach_router(self.units)
        super().detach(remaining)

    def accumulate_gradients(self, enabled: bool) -> None:
        """Let gradients through the outgoing masks, or stop doing so; masked experts stay hidden."""
        super().accumulate_gradients(enabled)
        for part in self._router_slices():
            self.masks[part.module, part.name].suspended = False

    def set_gates(self, gates: Tensor | None) -> None:
        """Multiply the output of each expert by its gate [count] in training; None ends it.

        An expert with a gate of 0 is hidden.
        """
        super().set_gates(gates)
        for part in self._router_slices():
            mask = self.masks[part.module, part.name]
            mask.gate = None if gates is None else (gates > 0).to(gates.dtype).view(mask.mask.shape)

    def _router_slices(self) -> list[Slice]:
        router = self.units.slices[0].module
        return [part for part in self.units.slices if part.module is router]
