"""Autograd functions of fake quantization, whose true gradient would be zero."""

import torch
from torch import Tensor


class StraightThrough(torch.autograd.Function):
    """Forward ``quantized``, backward to ``x`` as if it were ``x``, and to ``quantized``, for a learned codebook.

    Saves and copies nothing (Bengio et al. 2013, arXiv 1308.3432).
    """

    @staticmethod
    def forward(x: Tensor, quantized: Tensor) -> Tensor:
        return quantized

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad


class LearnedStep(torch.autograd.Function):
    """Forward ``y = clamp(round(x / s), -q, q) s`` for x [G, n], a scale s > 0 [G, 1], and an integer q.

    Backward ``dy/dx = 1`` where ``|x| <= q s``, else 0, and ``dy/ds = (y - x) / s`` there, else ``y / s`` (LSQ:
    Esser et al. 2019, arXiv 1902.08153).
    """

    @staticmethod
    def forward(x: Tensor, scale: Tensor, max_code: int) -> Tensor:
        return torch.div(x, scale).round_().clamp_(-max_code, max_code).mul_(scale)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, scale, ctx.max_code = inputs
        ctx.save_for_backward(x, scale, output)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, scale, y = ctx.saved_tensors
        grad_x = grad * (x.abs() <= ctx.max_code * scale)
        return grad_x, (grad * y - grad_x * x).sum(dim=1, keepdim=True) / scale, None


class ScaledGradient(torch.autograd.Function):
    """Forward ``x``, backward the gradient times a factor."""

    @staticmethod
    def forward(x: Tensor, factor: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


class WithZeroGradients(torch.autograd.Function):
    """Forward ``x``, backward zeros to parameters that are not used at this step: DDP waits for all gradients."""

    @staticmethod
    def forward(x: Tensor, *unused: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, *(torch.zeros_like(unused) for unused in ctx.saved_tensors)
