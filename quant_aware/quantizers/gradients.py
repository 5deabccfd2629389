"""What rounding passes backward, where that is not what autograd would find: its true gradient is zero."""

import torch
from torch import Tensor


class StraightThrough(torch.autograd.Function):
    """Forward ``rounded``, backward to ``x`` as if it were ``x``, and to ``rounded``, of a table that learns; saves
    nothing and copies nothing (Bengio et al. 2013, arXiv 1308.3432).
    """

    @staticmethod
    def forward(x: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad


class LearnedStep(torch.autograd.Function):
    """Forward ``y = clamp(round(x / s), -q, q) s`` for x [G, n] and s > 0 [G, 1], q a whole number.

    Backward ``dy/dx = 1`` where ``|x| <= q s``, else 0, and ``dy/ds = (y - x) / s`` there, else ``y / s`` (LSQ:
    Esser et al. 2019, arXiv 1902.08153).
    """

    @staticmethod
    def forward(x: Tensor, step: Tensor, top: int) -> Tensor:
        return torch.div(x, step).round_().clamp_(-top, top).mul_(step)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, step, ctx.top = inputs
        ctx.save_for_backward(x, step, output)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, step, y = ctx.saved_tensors
        passed = grad * (x.abs() <= ctx.top * step)
        return passed, (grad * y - passed * x).sum(dim=1, keepdim=True) / step, None


class Scaled(torch.autograd.Function):
    """Forward ``x``, backward a share of the gradient."""

    @staticmethod
    def forward(x: Tensor, share: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.share = inputs[1]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.share, None


class Aside(torch.autograd.Function):
    """Forward ``x``, backward zeros to parameters that have no part in it now: DDP waits for the gradients of all."""

    @staticmethod
    def forward(x: Tensor, *idle: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, *(torch.zeros_like(idle) for idle in ctx.saved_tensors)
