"""Weights on a grid while they are trained, by default that of ONNX Runtime's int8: one scale for each output.

All is computed in float32; gradients are straight-through (Bengio et al. 2013, arXiv 1308.3432): rounding
passes them unchanged.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from quant_aware.quantizers.gradients import Aside, Scaled, StraightThrough
from quant_aware.quantizers.grids import Quantizer, Uniform
from students.families.linear import is_conv1d
from students.weights import shard_like


def weight_axis(module: nn.Module) -> int:
    """The axis of ``module.weight`` with one scale per index: 0, but 1 for GPT-2's Conv1D ([in, out]).

    An embedding has one scale per row: a head tied to it, with outputs for rows, has the same grid.

    Raises:
        ValueError: if the module is no linear layer and no embedding.
    """
    if is_conv1d(module):
        return 1
    if isinstance(module, (nn.Linear, nn.Embedding)):
        return 0
    raise ValueError(f"{type(module).__name__} cannot be quantised; linear layers and embeddings can")


def quantize_weight(w: Tensor, axis: int = 0) -> tuple[Tensor, Tensor]:
    """The int8 codes, -127 to 127, and the scale of each index of ``axis``, of a weight on the grid of the export.

    ``codes * scale`` is the fake-quantised weight.
    """
    grid = Uniform()
    groups = grid.divide(w.detach(), axis)
    scale = grid.qparams(groups)
    codes = grid.encode(groups, scale) - grid.levels // 2
    return codes.to(torch.int8).movedim(0, axis), scale.movedim(0, axis)


def fake_quantize_weight(w: Tensor, grid: Quantizer | None = None, axis: int = 0) -> Tensor:
    """The values that take the place of a weight on a grid (the int8 one), with a straight-through gradient."""
    grid = grid or Uniform()
    groups = grid.divide(w.detach(), axis)
    return StraightThrough.apply(w, grid.join(grid.round(groups), w, axis))


class FakeQuant(nn.Module):
    """A step on a weight, for ``torch.nn.utils.parametrize``: on its grid while ``enabled``, else unchanged.

    Args:
        grids: those that the weight has, one after the other; which it has now is ``stage``.
        axis: of the weight's outputs.
    """

    order: ClassVar[int] = 1
    """Its place in the chain of steps: after masks."""

    def __init__(self, grids: list[Quantizer] | None = None, axis: int = 0):
        super().__init__()
        self.grids, self.axis = grids or [Uniform()], axis
        self.stage, self.enabled = len(self.grids) - 1, False
        self.share = 1.0
        """Of the numbers, those that are rounded in training."""
        self.fits = nn.ParameterDict()
        """By stage, what a grid learns, flat: no weight decay for it."""

    @property
    def grid(self) -> Quantizer:
        """The present one."""
        return self.grids[self.stage]

    def prepare(self, w: Tensor) -> None:
        """Makes the parameters of the grids that learn, for such a weight; before an optimizer is made.

        They are zeros until ``calibrate``.
        """
        for stage, grid in enumerate(self.grids):
            if grid.learn:
                count = len(grid.divide(w.detach(), self.axis)) * grid.qparams_per_group
                self.fits[str(stage)] = nn.Parameter(torch.zeros(count, device=w.device))

    @torch.no_grad()
    def calibrate(self, w: Tensor) -> None:
        """Takes what the present grid learns from a weight, whole."""
        if self.grid.learn:
            qparams = self.fits[str(self.stage)]
            qparams.copy_(shard_like(self.grid.qparams(self.grid.divide(w, self.axis)).flatten(), qparams))

    def forward(self, w: Tensor) -> Tensor:
        """The weight as the deployed model will have it, in the shape and type of ``w``."""
        rounded = self._round(w)
        return self.drawn(w, rounded) if self.training and self.enabled else rounded

    def drawn(self, w: Tensor, rounded: Tensor) -> Tensor:
        """A weight of which the share is rounded and the rest is not."""
        return rounded if self.share >= 1 else torch.where(torch.rand_like(w) < self.share, rounded, w)

    def _round(self, w: Tensor) -> Tensor:
        learns = self.enabled and self.grid.learn
        idle = [qparams for stage, qparams in self.fits.items() if not (learns and stage == str(self.stage))]
        if idle:
            w = Aside.apply(w, *idle)
        if not self.enabled or w.numel() == 0:  # of a branch that is gone
            return w
        return self.round(w)

    def round(self, w: Tensor) -> Tensor:
        """A weight on the present grid; or some rows of one, where none of their own are learned."""
        if not self.grid.learn:
            return fake_quantize_weight(w, self.grid, self.axis)
        groups = self.grid.divide(w, self.axis)
        # so that the sum of a group's gradients is of the size of a weight's (Esser et al. 2019)
        share = (groups.shape[1] * (self.grid.levels // 2)) ** -0.5
        qparams = Scaled.apply(self.fits[str(self.stage)], share).view(len(groups), -1)
        return self.grid.join(self.grid.fake_quantize_learned(groups, qparams), w, self.axis)

    def extra_repr(self) -> str:
        """``grid``, ``axis`` and ``enabled``."""
        return f"grid={self.grid}, axis={self.axis}, enabled={self.enabled}"


class FakeQuantRows:
    """A forward hook for an embedding: fake-quantises each row that was looked up, [..., H], while ``enabled``, on the
    grid of the step that would do so with the whole table.
    """

    def __init__(self, step: FakeQuant):
        self.step = step
        self.enabled = False

    def __call__(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        """The rows as they stand in the quantised table."""
        if not self.enabled:
            return output
        rounded = self.step.round(output.flatten(0, -2)).view_as(output)
        return self.step.drawn(output, rounded) if module.training else rounded
