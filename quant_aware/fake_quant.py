"""Int8 numerics in training, equal to what ONNX Runtime computes when the model is deployed.

Weights: symmetric, one scale per output channel (per row of an embedding table, see ``weight_axis``).
Activations: ``DynamicQuantizeLinear``, that is asymmetric, one range per tensor, taken from that very tensor.
The range so depends on what else is in the batch, padding included, in training as in deployment.

All is computed in float32; gradients are straight-through (Bengio et al. 2013, arXiv 1308.3432): rounding
passes them unchanged. Nothing is clipped, since every range spans its tensor.
"""

import math
import weakref
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def weight_axis(module: nn.Module) -> int:
    """The axis of ``module.weight`` with one scale per index: 0, but 1 for GPT-2's Conv1D ([in, out]).

    An embedding has one scale per row: a head tied to it, with outputs for rows, has the same grid.

    Raises:
        ValueError: if the module is no linear layer and no embedding.
    """
    if isinstance(module, Conv1D):
        return 1
    if isinstance(module, (nn.Linear, nn.Embedding)):
        return 0
    raise ValueError(f"{type(module).__name__} cannot be quantised; linear layers and embeddings can")


def weight_scale(w: Tensor, bits: int = 8, axis: int | None = 0) -> Tensor:
    """The step of the grid, ``amax / (2^(bits - 1) - 1)``, in a shape that broadcasts with ``w``.

    ``amax`` is the largest magnitude of each index of ``axis``, or of the whole tensor (None). Where it is
    (nearly) 0 the step is 1, as in ONNX Runtime.

    Raises:
        ValueError: if ``bits`` is not in 2 to 8.
    """
    _check_bits(bits)
    others = [i for i in range(w.dim()) if axis is None or i != axis % w.dim()]
    # The maximum norm: one pass and no copy, unlike abs().amax().
    amax = torch.linalg.vector_norm(w.detach().float(), math.inf, dim=others, keepdim=True)
    scale = amax / (2 ** (bits - 1) - 1)
    return torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)


def quantize_weight(w: Tensor, bits: int = 8, axis: int | None = 0) -> tuple[Tensor, Tensor]:
    """The int8 codes and the scale of a weight; ``codes * scale`` is the fake-quantised weight.

    ``codes = round(w / scale)``, halves to even, within ``±(2^(bits - 1) - 1)``.

    Raises:
        ValueError: if ``bits`` is not in 2 to 8.
    """
    scale = weight_scale(w, bits, axis)
    return torch.div(w.detach().float(), scale).round_().to(torch.int8), scale


def fake_quantize_weight(w: Tensor, bits: int = 8, axis: int | None = 0) -> Tensor:
    """``codes * scale`` of ``quantize_weight``, with a straight-through gradient.

    A float32 weight on its grid comes back as it is. Only a grid of 8 bits is the one of the int8 export.

    Raises:
        ValueError: if ``bits`` is not in 2 to 8.
    """
    scale = weight_scale(w, bits, axis)
    snapped = torch.div(w.detach().float(), scale).round_().mul_(scale)
    return _StraightThrough.apply(w, snapped.to(w.dtype))


def fake_quantize_activation(x: Tensor, bits: int = 8) -> Tensor:
    """What is left of ``x`` after ONNX's DynamicQuantizeLinear and back, with a straight-through gradient.

    ``scale = (max(x, 0) - min(x, 0)) / (2^bits - 1)``, ``zero = round(-min(x, 0) / scale)``,
    ``scale * (saturate(round(x / scale) + zero) - zero)``, halves to even, over the whole tensor. A tensor of no
    features, of a branch that was cut out, stays one.

    Raises:
        ValueError: if ``bits`` is not in 2 to 8.
    """
    _check_bits(bits)
    if x.shape[-1] == 0:
        return x.clone()
    top = 2**bits - 1
    values = x.detach().float()
    low, high = torch.aminmax(values)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / top
    scale = torch.where(scale == 0, 1.0, scale)
    zero = (-low / scale).clamp(max=top).round()
    # x >= low, so round(x / scale) + zero >= 0; only the top can be passed, by one, when two halves round up.
    # torch's own fake_quantize multiplies by 1 / scale, so some codes differ by one, and is slower on CPU.
    snapped = torch.div(values, scale).round_().clamp_max_(top - zero).mul_(scale)
    return _StraightThrough.apply(x, snapped.to(x.dtype))


class FakeQuant(nn.Module):
    """A step on a weight, for ``torch.nn.utils.parametrize``: on its grid while ``enabled``, else unchanged.

    Raises:
        ValueError: if ``bits`` is not in 2 to 8.
    """

    order: ClassVar[int] = 1
    """Its place in the chain of steps: after masks."""

    def __init__(self, bits: int = 8, axis: int | None = 0):
        super().__init__()
        _check_bits(bits)
        self.bits, self.axis = bits, axis
        self.enabled = False

    def forward(self, w: Tensor) -> Tensor:
        """The weight as the deployed model will have it, in the shape and type of ``w``."""
        return fake_quantize_weight(w, self.bits, self.axis) if self.enabled else w

    def extra_repr(self) -> str:
        """``bits``, ``axis`` and ``enabled``."""
        return f"bits={self.bits}, axis={self.axis}, enabled={self.enabled}"


class FakeQuantRows:
    """A forward hook for an embedding: fake-quantises each row that was looked up, [..., H], while ``enabled``."""

    def __init__(self, bits: int = 8):
        self.bits = bits
        self.enabled = False

    def __call__(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        """The rows as they stand in the quantised table."""
        return fake_quantize_weight(output.flatten(0, -2), self.bits, 0).view_as(output) if self.enabled else output


class InputMemo:
    """The last fake-quantised activation of a model: q, k and v read the very same tensor.

    The source is held weakly, and its result goes with it, so nothing outlives the forward pass that made it.
    A copy (deepcopy, pickle) starts empty.

    Raises:
        ValueError: if ``bits`` is not in 2 to 8.
    """

    def __init__(self, bits: int = 8):
        _check_bits(bits)
        self.bits = bits
        self._forget()

    def __reduce__(self):
        return InputMemo, (self.bits,)

    def __call__(self, x: Tensor) -> Tensor:
        """``fake_quantize_activation(x)``, computed once for the same tensor, content and gradient mode."""
        # The compiler merges equal computations by itself, and cannot trace weak references.
        if torch.compiler.is_compiling():
            return fake_quantize_activation(x, self.bits)
        key = (0 if x.is_inference() else x._version, torch.is_grad_enabled())
        if self._source is None or self._source() is not x or self._key != key:
            result = fake_quantize_activation(x, self.bits)
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


class _StraightThrough(torch.autograd.Function):
    """Forward ``snapped``, backward to ``x`` as if it were ``x``; saves nothing and copies nothing."""

    @staticmethod
    def forward(x: Tensor, snapped: Tensor) -> Tensor:
        return snapped

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def _check_bits(bits: int) -> None:
    if not 2 <= bits <= 8:
        raise ValueError(f"bits: must be 2 to 8, not {bits}")
