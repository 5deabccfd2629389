"""Linear layers that read nothing any more: all that comes out of them is their bias."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D


class ConstantLinear(nn.Linear):
    """An ``nn.Linear`` with no inputs, [..., 0] to [..., outputs]."""

    def forward(self, input: Tensor) -> Tensor:
        """The bias, or zeros, at each position."""
        return _constant(input, self.weight, self.bias)


class ConstantConv1D(Conv1D):
    """A ``Conv1D`` with no inputs, [..., 0] to [..., outputs]; the stock one fails on them."""

    def forward(self, x: Tensor) -> Tensor:
        """The bias at each position."""
        return _constant(x, self.weight.T, self.bias)


def make_constant(layer: nn.Linear | Conv1D) -> None:
    """Change, in place, the class of a layer whose weight has no inputs left."""
    layer.__class__ = ConstantConv1D if isinstance(layer, Conv1D) else ConstantLinear


def _constant(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if torch.compiler.is_exporting():
        # Only the shape is read, so all that led here leaves the graph; the int8 exporter fails on empty products.
        zeros = x.new_zeros(*x.shape[:-1], weight.shape[0])
        return zeros if bias is None else zeros + bias
    # An empty product is zero, and keeps every parameter in the graph: DDP waits for the gradients of all.
    return functional.linear(x, weight, bias)
