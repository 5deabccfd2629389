"""Fake quantization of the inputs of linear layers, by their range at each forward pass (dynamic quantization).

The asymmetric quantizer of 8 bits per tensor is ``DynamicQuantizeLinear`` of ONNX. All is computed in float32;
gradients are straight-through (Bengio et al. 2013, arXiv 1308.3432). Nothing is clipped, since every range covers its
values.
"""

import weakref
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from quant_aware.quantizers.gradients import StraightThrough
from quant_aware.quantizers.quantizer import check_bits


@dataclass(frozen=True, kw_only=True)
class ActivationQuantizer:
    """The settings of activation quantization."""

    shorthand: ClassVar[str] = "bits"

    bits: int = 8
    """The bits of a code, 2 to 8."""
    granularity: Literal["tensor", "token"] = "tensor"
    """What has a range of its own: the whole input of a layer, padding included, as in ONNX Runtime; or each token, so
    that a text is quantized the same in any batch (Yao et al. 2022, arXiv 2206.01861)."""
    symmetric: bool = False
    """Whether a range reaches as far below 0 as above; ONNX Runtime needs it for a range per token."""

    def __post_init__(self):
        check_bits(self.bits, 2)


def fake_quantize_activation(x: Tensor, quantizer: ActivationQuantizer | None = None) -> Tensor:
    """Return the quantized values of ``x`` [..., H], with a straight-through gradient.

    ``scale = (max(x, 0) - min(x, 0)) / (2^bits - 1)``, ``zero = round(-min(x, 0) / scale)``,
    ``scale * (saturate(round(x / scale) + zero) - zero)``, halves to even. If symmetric, ``scale = max |x| /
    (2^(bits - 1) - 1)`` and ``scale * round(x / scale)``. A tensor without features, of a branch that was cut out, is
    returned as it is.
    """
    quantizer = quantizer or ActivationQuantizer()
    if x.shape[-1] == 0:
        return x.clone()
    values, per_token = x.detach().float(), quantizer.granularity == "token"
    if quantizer.symmetric:
        magnitudes = values.abs()
        largest = magnitudes.amax(dim=-1, keepdim=True) if per_token else magnitudes.amax()
        scale = (largest / (2 ** (quantizer.bits - 1) - 1)).clamp_(min=torch.finfo(torch.float32).tiny)
        return StraightThrough.apply(x, torch.div(values, scale).round_().mul_(scale).to(x.dtype))
    max_code = 2**quantizer.bits - 1
    low, high = torch.aminmax(values, dim=-1, keepdim=True) if per_token else torch.aminmax(values)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / max_code
    scale = torch.where(scale == 0, 1.0, scale)
    zero = (-low / scale).clamp(max=max_code).round()
    # x >= low, so round(x / scale) + zero >= 0; only the maximum can be passed, by one, when two halves round up.
    # torch's own fake_quantize multiplies by 1 / scale, so some codes differ by one, and is slower on CPU.
    codes = torch.div(values, scale).round_()
    codes = torch.minimum(codes, max_code - zero) if per_token else codes.clamp_max_(max_code - zero)
    return StraightThrough.apply(x, codes.mul_(scale).to(x.dtype))


class InputCache:
    """The last fake-quantized activation of a model: query, key and value projections read the same tensor.

    The input is referenced weakly, and its result is dropped with it, so nothing outlives the forward pass that made
    it. A copy (deepcopy, pickle) starts empty.
    """

    def __init__(self, quantizer: ActivationQuantizer | None = None):
        self.quantizer = quantizer or ActivationQuantizer()
        self._clear()

    def __reduce__(self):
        return InputCache, (self.quantizer,)

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``fake_quantize_activation(x)``, computed once for the same tensor, version and gradient mode."""
        # The compiler merges equal computations by itself, and cannot trace weak references.
        if torch.compiler.is_compiling():
            return fake_quantize_activation(x, self.quantizer)
        key = (0 if x.is_inference() else x._version, torch.is_grad_enabled())
        if self._source is None or self._source() is not x or self._key != key:
            result = fake_quantize_activation(x, self.quantizer)
            # First: the old result may hold the last reference to its source, whose end would clear this one.
            self._clear()
            self._source, self._result, self._key = weakref.ref(x, self._clear), result, key
        return self._result

    def _clear(self, source: weakref.ref | None = None) -> None:
        if source is None or source is self._source:
            self._source = self._result = self._key = None


class FakeQuantInput:
    """A forward pre-hook of a linear layer that quantizes its first positional argument while ``enabled``."""

    def __init__(self, cache: InputCache):
        self.cache = cache
        self.enabled = False

    def __call__(self, module: nn.Module, args: tuple) -> tuple:
        """Return the arguments with which the layer is called."""
        return (self.cache(args[0]), *args[1:]) if self.enabled else args
