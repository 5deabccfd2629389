"""Single weights and tiles, as what a pruner ranks and masks."""

from __future__ import annotations

from torch import Tensor, nn

from prune_schedules.targets.mask import Mask
from prune_schedules.targets.target import Numbers, Parameter, PruneTarget
from students.weights import add_weight_transform, out_axis, raw_parameter


class ElementTarget(PruneTarget):
    """The entries of one weight, or its tiles, under one mask; ``shape`` is [outputs, inputs] in tiles.

    Args:
        module: whose weight it is.
        tile: the outputs and inputs of a tile.
    """

    def __init__(self, module: nn.Module, tile: tuple[int, int] = (1, 1)):
        weight = raw_parameter(module)
        self.module, self.tile, self.total = module, tile, weight.numel()
        self.mask = Mask(weight.shape, weight.device)
        add_weight_transform(module, self.mask)

    @property
    def shape(self) -> tuple[int, ...]:
        """[outputs, inputs] of the weight as it is now, in tiles."""
        outputs, inputs = self._outputs_first(self.mask.mask).shape
        return outputs // self.tile[0], inputs // self.tile[1]

    @property
    def places(self) -> list[Parameter]:
        """The weight."""
        return [(self.module, "weight")]

    @property
    def gates(self) -> dict[Parameter, Mask]:
        """The mask on the weight."""
        return {(self.module, "weight"): self.mask}

    @property
    def reader(self) -> nn.Module:
        """The module itself."""
        return self.module

    def numbers(self, of: Numbers) -> list[Tensor]:
        """What belongs to each tile, as one tensor [outputs, inputs, numbers]; of a masked one what lies beneath."""
        (rows, columns), tensor = self.tile, self._outputs_first(of(self.module, "weight"))
        if self.tile == (1, 1):
            return [tensor.unsqueeze(-1)]
        return [tensor.unfold(0, rows, rows).unfold(1, columns, columns).flatten(2)]

    sent = numbers

    def keep(self, keep: Tensor) -> None:
        """Mask all tiles but those in ``keep`` (bool [outputs, inputs])."""
        self.mask.keep(self._spread(keep))

    def masked(self) -> tuple[int, int]:
        """Return how many entries are masked, or were cut out with a unit, and of how many."""
        return self.total - int(self.mask.mask.sum()), self.total

    def accumulate_gradients(self, on: bool) -> None:
        """Let gradients of what is masked through, or no longer."""
        self.mask.straight, self.mask.idle = on, False

    def suspend_mask(self) -> None:
        """Take the mask off for the step that is looked at."""
        self.mask.idle = True

    def set_gates(self, factors: Tensor | None) -> None:
        """Multiply each tile by its factor [outputs, inputs] in training, or no longer."""
        self.mask.factor = None if factors is None else self._spread(factors)

    def _spread(self, tiles: Tensor) -> Tensor:
        rows, columns = self.tile
        return self._outputs_first(tiles.repeat_interleave(rows, 0).repeat_interleave(columns, 1))

    def _outputs_first(self, tensor: Tensor) -> Tensor:
        return tensor.movedim(out_axis(self.module), 0)
