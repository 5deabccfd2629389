"""How the inputs of linear layers are rounded: by the range that they have at the moment.

An asymmetric one of 8 bits over a whole tensor is ``DynamicQuantizeLinear`` of ONNX. All is computed in float32;
gradients are straight-through (Bengio et al. 2013, arXiv 1308.3432). Nothing is clipped, since every range spans its
numbers.
"""

import weakref
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from quant_aware.quantizers.gradients import StraightThrough


@dataclass(frozen=True, kw_only=True)
class Activations:
    """To how many bits, and what has a range of its own."""

    shorthand: ClassVar[str] = "bits"

    bits: int = 8
    """Of a number, 2 to 8."""
    per: Literal["tensor", "token"] = "tensor"
    """All that a layer reads at once, padding included, as in ONNX Runtime; or what it reads of each token, so that a
    text is rounded the same in any company (Yao et al. 2022, arXiv 2206.01861)."""
    symmetric: bool = False
    """Whether a range reaches as far below 0 as above; for each token onnxruntime computes with no other."""

    def __post_init__(self):
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits: must be 2 to 8, not {self.bits}")


def fake_quantize_activation(x: Tensor, kind: Activations | None = None) -> Tensor:
    """What is left of ``x`` [..., H] after rounding and back, with a straight-through gradient.

    ``scale = (max(x, 0) - min(x, 0)) / (2^bits - 1)``, ``zero = round(-min(x, 0) / scale)``,
    ``scale * (saturate(round(x / scale) + zero) - zero)``, halves to even. If symmetric, ``scale = max |x| /
    (2^(bits - 1) - 1)`` and ``scale * round(x / scale)``. A tensor of no features, of a branch that was cut out, stays
    one.
    """
    kind = kind or Activations()
    if x.shape[-1] == 0:
        return x.clone()
    values = x.detach().float()
    if kind.symmetric:
        sizes = values.abs()
        largest = sizes.amax(dim=-1, keepdim=True) if kind.per == "token" else sizes.amax()
        scale = (largest / (2 ** (kind.bits - 1) - 1)).clamp_(min=torch.finfo(torch.float32).tiny)
        return StraightThrough.apply(x, torch.div(values, scale).round_().mul_(scale).to(x.dtype))
    top = 2**kind.bits - 1
    low, high = torch.aminmax(values, dim=-1, keepdim=True) if kind.per == "token" else torch.aminmax(values)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / top
    scale = torch.where(scale == 0, 1.0, scale)
    zero = (-low / scale).clamp(max=top).round()
    # x >= low, so round(x / scale) + zero >= 0; only the top can be passed, by one, when two halves round up.
    # torch's own fake_quantize multiplies by 1 / scale, so some codes differ by one, and is slower on CPU.
    codes = torch.div(values, scale).round_()
    codes = torch.minimum(codes, top - zero) if kind.per == "token" else codes.clamp_max_(top - zero)
    return StraightThrough.apply(x, codes.mul_(scale).to(x.dtype))


class InputMemo:
    """The last fake-quantised activation of a model: q, k and v read the very same tensor.

    The source is held weakly, and its result goes with it, so nothing outlives the forward pass that made it.
    A copy (deepcopy, pickle) starts empty.
    """

    def __init__(self, kind: Activations | None = None):
        self.kind = kind or Activations()
        self._forget()

    def __reduce__(self):
        return InputMemo, (self.kind,)

    def __call__(self, x: Tensor) -> Tensor:
        """``fake_quantize_activation(x)``, computed once for the same tensor, content and gradient mode."""
        # The compiler merges equal computations by itself, and cannot trace weak references.
        if torch.compiler.is_compiling():
            return fake_quantize_activation(x, self.kind)
        key = (0 if x.is_inference() else x._version, torch.is_grad_enabled())
        if self._source is None or self._source() is not x or self._key != key:
            result = fake_quantize_activation(x, self.kind)
            self._forget()  # first: the old result may be the last to hold its source, whose end would empty this
            self._source, self._result, self._key = weakref.ref(x, self._forget), result, key
        return self._result

    def _forget(self, source: weakref.ref | None = None) -> None:
        if source is None or source is self._source:
            self._source = self._result = self._key = None


class FakeQuantInput:
    """A forward pre-hook of a linear layer: fake-quantises its first positional argument, if ``enabled``."""

    def __init__(self, memo: InputMemo):
        self.memo = memo
        self.enabled = False

    def __call__(self, module: nn.Module, args: tuple) -> tuple:
        """The arguments with which the layer is called."""
        return (self.memo(args[0]), *args[1:]) if self.enabled else args
