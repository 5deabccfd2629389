"""Single weights and tiles as prune targets."""

from __future__ import annotations

from torch import Tensor, nn

from prune_schedules.targets.mask import Mask
from prune_schedules.targets.target import ParameterRef, PruneTarget, TensorGetter
from students.weights import add_weight_transform, out_axis, raw_parameter


class ElementTarget(PruneTarget):
    """The entries of one weight, or its tiles, under one mask; ``shape`` is [outputs, inputs] in tiles.

    Args:
        module: the owner of the weight.
        tile: the outputs and inputs of a tile.
    """

    def __init__(self, module: nn.Module, tile: tuple[int, int] = (1, 1)):
        weight = raw_parameter(module)
        self.module, self.tile, self.initial_count = module, tile, weight.numel()
        self.mask = Mask(weight.shape, weight.device)
        add_weight_transform(module, self.mask)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return [outputs, inputs] of the current weight, in tiles."""
        outputs, inputs = self._outputs_first(self.mask.mask).shape
        return outputs // self.tile[0], inputs // self.tile[1]

    @property
    def parameters(self) -> list[ParameterRef]:
        """Return the weight."""
        return [(self.module, "weight")]

    @property
    def outgoing_masks(self) -> dict[ParameterRef, Mask]:
        """Return the mask on the weight."""
        return {(self.module, "weight"): self.mask}

    @property
    def reader(self) -> nn.Module:
        """Return the module itself."""
        return self.module

    def entries(self, get: TensorGetter) -> list[Tensor]:
        """Return the entries of each tile, one tensor [outputs, inputs, entries], without the mask."""
        (rows, columns), tensor = self.tile, self._outputs_first(get(self.module, "weight"))
        if self.tile == (1, 1):
            return [tensor.unsqueeze(-1)]
        return [tensor.unfold(0, rows, rows).unfold(1, columns, columns).flatten(2)]

    outgoing_entries = entries

    def keep(self, kept: Tensor) -> None:
        """Mask all tiles but the ``kept`` ones (bool [outputs, inputs])."""
        self.mask.keep(self._expand(kept))

    def count_masked(self) -> tuple[int, int]:
        """Return the number of entries that are masked, or were cut out with a unit, and the number of all."""
        return self.initial_count - int(self.mask.mask.sum()), self.initial_count

    def accumulate_gradients(self, enabled: bool) -> None:
        """Let gradients of masked entries through, or stop doing so."""
        self.mask.straight_through, self.mask.suspended = enabled, False

    def suspend_mask(self) -> None:
        """Take the mask off for this training step."""
        self.mask.suspended = True

    def set_gates(self, gates: Tensor | None) -> None:
        """Multiply each tile by its gate [outputs, inputs] in training; None ends it."""
        self.mask.gate = None if gates is None else self._expand(gates)

    def _expand(self, tiles: Tensor) -> Tensor:
        rows, columns = self.tile
        return self._outputs_first(tiles.repeat_interleave(rows, 0).repeat_interleave(columns, 1))

    def _outputs_first(self, tensor: Tensor) -> Tensor:
        return tensor.movedim(out_axis(self.module), 0)
