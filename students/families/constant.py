"""Linear layers without inputs, whose output is their bias."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers.pytorch_utils import Conv1D


class ConstantLinear(nn.Linear):
    """An ``nn.Linear`` without inputs, [..., 0] to [..., outputs]."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the bias, or zeros, at each position."""
        return _constant(input, self.weight, self.bias)


class ConstantConv1D(Conv1D):
    """A ``Conv1D`` without inputs, [..., 0] to [..., outputs]; the stock one fails on them."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the bias at each position."""
        return _constant(x, self.weight.T, self.bias)


def make_constant(layer: nn.Linear | Conv1D) -> None:
    """Change, in place, the class of a layer that has lost its last input; its weight transforms stay."""
    constant, current = ConstantConv1D if isinstance(layer, Conv1D) else ConstantLinear, type(layer)
    if parametrize.is_parametrized(layer):
        # parametrize gives a layer a class of its own, whose properties compute its weights; keep them on the new base.
        properties = {key: value for key, value in vars(current).items() if key not in ("__dict__", "__weakref__")}
        layer.__class__ = type(current.__name__, (constant,), properties)
    else:
        layer.__class__ = constant


def _constant(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if torch.compiler.is_exporting():
        # Only the shape is used, so what precedes leaves the graph; the int8 exporter fails on empty products.
        zeros = x.new_zeros(*x.shape[:-1], weight.shape[0])
        return zeros if bias is None else zeros + bias
    # An empty product is zero, and keeps every parameter in the graph: DDP waits for the gradients of all.
    return functional.linear(x, weight, bias)
