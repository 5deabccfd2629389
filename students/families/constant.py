"""Linear layers that read nothing any more: all that comes out of them is their bias."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
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
    """Change, in place, the class of a layer whose weight has no inputs left; steps on its weight or bias stay."""
    plain, own = ConstantConv1D if isinstance(layer, Conv1D) else ConstantLinear, type(layer)
    if parametrize.is_parametrized(layer):
        # torch reads such weights through properties of a class made for this layer alone, and goes back to its base.
        properties = {key: value for key, value in vars(own).items() if key not in ("__dict__", "__weakref__")}
        layer.__class__ = type(own.__name__, (plain,), properties)
    else:
        layer.__class__ = plain


def _constant(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if torch.compiler.is_exporting():
        # Only the shape is read, so all that led here leaves the graph; the int8 exporter fails on empty products.
        zeros = x.new_zeros(*x.shape[:-1], weight.shape[0])
        return zeros if bias is None else zeros + bias
    # An empty product is zero, and keeps every parameter in the graph: DDP waits for the gradients of all.
    return functional.linear(x, weight, bias)
