"""Fake quantization of weights in training, by default as ONNX Runtime's int8: one scale for each output.

All is computed in float32. Gradients are straight-through (Bengio et al. 2013, arXiv 1308.3432): rounding passes them
unchanged.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from quant_aware.quantizers.gradients import ScaledGradient, StraightThrough, WithZeroGradients
from quant_aware.quantizers.quantizer import Quantizer
from quant_aware.quantizers.uniform import Uniform
from students.families.linear import is_conv1d
from students.weights import shard_like


def weight_axis(module: nn.Module) -> int:
    """Return the output axis of ``module.weight``: 0, but 1 for GPT-2's Conv1D ([in, out]).

    The axis of an embedding is that of its rows: a head tied to it, whose outputs are the rows, has the same scales.

    Raises:
        ValueError: if the module is neither a linear layer nor an embedding.
    """
    if is_conv1d(module):
        return 1
    if isinstance(module, (nn.Linear, nn.Embedding)):
        return 0
    raise ValueError(f"{type(module).__name__} cannot be quantized; linear layers and embeddings can")


def quantize_weight(w: Tensor, axis: int = 0) -> tuple[Tensor, Tensor]:
    """Return the int8 codes of a weight, -127 to 127, and the scale of each index of ``axis``, as they are exported.

    ``codes * scale`` is the fake-quantized weight.
    """
    quantizer = Uniform()
    groups = quantizer.to_groups(w.detach(), axis)
    scale = quantizer.qparams(groups)
    codes = quantizer.encode(groups, scale) - quantizer.levels // 2
    return codes.to(torch.int8).movedim(0, axis), scale.movedim(0, axis)


def fake_quantize_weight(w: Tensor, quantizer: Quantizer | None = None, axis: int = 0) -> Tensor:
    """Return the quantized values of a weight, with a straight-through gradient.

    Args:
        w: the weight.
        quantizer: int8 per row if not given.
        axis: the axis of its outputs.
    """
    quantizer = quantizer or Uniform()
    groups = quantizer.to_groups(w.detach(), axis)
    return StraightThrough.apply(w, quantizer.from_groups(quantizer.fake_quantize_dynamic(groups), w, axis))


class FakeQuant(nn.Module):
    """A parametrization of a weight (``torch.nn.utils.parametrize``): quantized while ``enabled``, else unchanged.

    Args:
        quantizers: of the weight, one for each stage of training; ``current_stage`` selects one.
        axis: of the weight's outputs.
    """

    order: ClassVar[int] = 1
    """The position among the parametrizations of a weight: after masks."""

    def __init__(self, quantizers: list[Quantizer] | None = None, axis: int = 0):
        super().__init__()
        self.quantizers, self.axis = quantizers or [Uniform()], axis
        self.current_stage, self.enabled = len(self.quantizers) - 1, False
        self.quant_noise = 1.0
        """The probability that an entry is quantized in a training step."""
        self.learned_qparams = nn.ParameterDict()
        """By stage, the learned qparams, flat, so that they have no weight decay."""

    @property
    def quantizer(self) -> Quantizer:
        """Return the quantizer of the current stage."""
        return self.quantizers[self.current_stage]

    def add_qparams(self, w: Tensor) -> None:
        """Create the learned qparams for a weight; to be called before an optimizer is made.

        They are zeros until ``calibrate``.
        """
        for stage, quantizer in enumerate(self.quantizers):
            if quantizer.learn:
                count = len(quantizer.to_groups(w.detach(), self.axis)) * quantizer.qparams_per_group
                self.learned_qparams[str(stage)] = nn.Parameter(torch.zeros(count, device=w.device))

    @torch.no_grad()
    def calibrate(self, w: Tensor) -> None:
        """Initialize the learned qparams of the current stage from a full (unsharded) weight."""
        if self.quantizer.learn:
            qparams = self.learned_qparams[str(self.current_stage)]
            initial = self.quantizer.qparams(self.quantizer.to_groups(w, self.axis))
            qparams.copy_(shard_like(initial.flatten(), qparams))

    def forward(self, w: Tensor) -> Tensor:
        """Return the weight as the deployed model will have it, in the shape and dtype of ``w``."""
        quantized = self._forward(w)
        return self.add_noise(w, quantized) if self.training and self.enabled else quantized

    def add_noise(self, w: Tensor, quantized: Tensor) -> Tensor:
        """Return a weight with a random ``quant_noise`` of its entries quantized and the rest as they are."""
        return quantized if self.quant_noise >= 1 else torch.where(torch.rand_like(w) < self.quant_noise, quantized, w)

    def _forward(self, w: Tensor) -> Tensor:
        learns = self.enabled and self.quantizer.learn
        stage = str(self.current_stage) if learns else None
        unused = [qparams for key, qparams in self.learned_qparams.items() if key != stage]
        if unused:
            w = WithZeroGradients.apply(w, *unused)
        if not self.enabled or w.numel() == 0:  # empty where a branch was cut out
            return w
        return self.quantize(w)

    def quantize(self, w: Tensor) -> Tensor:
        """Return a weight quantized for the current stage, or some rows of one if no row has qparams of its own."""
        if not self.quantizer.learn:
            return fake_quantize_weight(w, self.quantizer, self.axis)
        groups = self.quantizer.to_groups(w, self.axis)
        # The sum of the gradients of a group is as large as the gradient of a weight (Esser et al. 2019).
        factor = (groups.shape[1] * (self.quantizer.levels // 2)) ** -0.5
        qparams = ScaledGradient.apply(self.learned_qparams[str(self.current_stage)], factor).view(len(groups), -1)
        return self.quantizer.from_groups(self.quantizer.fake_quantize_learned(groups, qparams), w, self.axis)

    def extra_repr(self) -> str:
        """Return ``quantizer``, ``axis`` and ``enabled``."""
        return f"quantizer={self.quantizer}, axis={self.axis}, enabled={self.enabled}"


class FakeQuantRows:
    """A forward hook of an embedding that quantizes the rows looked up, [..., H], while ``enabled``.

    Args:
        fake_quant: the parametrization that would quantize the whole embedding.
    """

    def __init__(self, fake_quant: FakeQuant):
        self.fake_quant = fake_quant
        self.enabled = False

    def __call__(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        """Return the rows of the quantized embedding."""
        if not self.enabled:
            return output
        quantized = self.fake_quant.quantize(output.flatten(0, -2)).view_as(output)
        return self.fake_quant.add_noise(output, quantized) if module.training else quantized
