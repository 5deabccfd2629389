"""Bits per weight under a limit for their average: most where quantization would change the loss most."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from quant_aware.quantizers.fake_quant import FakeQuant
from students import processes


@dataclass(kw_only=True)
class BitAllocation:
    """Bits for each weight, allocated at the step where quantization is enabled.

    ``b`` bits cost a weight ``tr(H) / n · |Q_b(w) - w|²``, H the Hessian of the loss with respect to this weight, n its
    number of entries (HAWQ-V2: Dong et al. 2020, arXiv 1911.03852; Q-BERT, Shen et al. 2019, arXiv 1909.05840, takes
    the largest eigenvalue instead of the mean). The bits go where they lower the cost most.

    Args:
        average_bits: bits per entry, on average over all weights; the maximum of a weight is the bits of ``weights``.
        batches: training batches by which the Hessian is estimated.
    """

    shorthand: ClassVar[str] = "average_bits"
    average_bits: float
    batches: int = 8

    def __post_init__(self):
        if self.average_bits < 2:
            raise ValueError(f"average_bits: must be at least 2, the minimum of a quantizer, not {self.average_bits}")
        if self.batches < 1:
            raise ValueError(f"batches: must be at least 1, not {self.batches}")


def hessian_traces(
    loss: Callable[[dict[str, Tensor]], Tensor], weights: list[Tensor], batches: Iterable[dict[str, Tensor]]
) -> list[float]:
    """Return for each weight the trace of the Hessian of the mean loss, over the batches and over all processes.

    Hutchinson's estimate ``v'Hv``, v of random signs, with one draw for each batch and all weights at once: what other
    weights add to it has mean 0. ``Hv`` is the difference of two gradients, so that no second derivative is needed.

    Args:
        loss: of a batch, deterministic.
        weights: raw float32 parameters; they are perturbed, and restored bit for bit.
        batches: at least one.
    """
    generator, count = torch.Generator().manual_seed(0), 0
    totals = torch.zeros(len(weights), dtype=torch.float64)
    originals, requires_grad = [w.detach().clone() for w in weights], [w.requires_grad for w in weights]
    for weight in weights:
        weight.requires_grad_()  # frozen weights are quantized as well
    # A thousandth of the root mean square: far above rounding, and the third derivative does not matter yet.
    epsilons = [1e-3 * float(weight.square().mean().sqrt()) or 1e-3 for weight in originals]
    for batch in batches:
        signs = [(torch.randint(2, w.shape, generator=generator) * 2 - 1).to(w) for w in originals]
        gradients = []
        for side in (1, -1):
            with torch.no_grad():
                for weight, original, epsilon, sign in zip(weights, originals, epsilons, signs, strict=True):
                    weight.copy_(original + side * epsilon * sign)
            gradients.append(torch.autograd.grad(loss(batch), weights, allow_unused=True, materialize_grads=True))
        by_weight = zip(*gradients, signs, epsilons, strict=True)
        totals += torch.tensor(
            [float(((up - down) * sign).double().sum()) / (2 * epsilon) for up, down, sign, epsilon in by_weight]
        )
        count += 1
    with torch.no_grad():
        for weight, original, required in zip(weights, originals, requires_grad, strict=True):
            weight.copy_(original).requires_grad_(required)
    # In float32, which every device has, also with one process, so that several processes round alike.
    traces = (
        processes.all_reduce_sum((totals / count).to(weights[0].device, torch.float32)).double()
        / processes.world_size()
    )
    return traces.tolist()


@torch.no_grad()
def quantization_costs(weight: Tensor, fake_quant: FakeQuant, trace: float) -> dict[int, float]:
    """Return the cost of a weight by bits, from 2 to the bits of its quantizer.

    Args:
        weight: the full tensor.
        fake_quant: its parametrization.
        trace: of its Hessian.
    """
    costs, groups = {}, fake_quant.quantizer.to_groups(weight, fake_quant.axis)
    for bits in range(2, fake_quant.quantizer.bits + 1):
        quantizer = replace(fake_quant.quantizer, bits=bits)
        if quantizer.learn:
            quantized = quantizer.fake_quantize_learned(groups, quantizer.qparams(groups))
        else:
            quantized = quantizer.fake_quantize_dynamic(groups)
        error = (quantized - groups).square().sum()
        # Where the loss is not convex a trace may be below 0; then the squared error alone decides.
        costs[bits] = max(trace / weight.numel(), 1e-12) * float(error)
    return costs


def allocate(costs: list[dict[int, float]], sizes: list[int], average_bits: float) -> list[int]:
    """Return the bits of each weight, chosen greedily.

    All weights begin with the fewest bits. Each step takes the increase that lowers the cost most for each bit of the
    file, as long as the average allows one.

    Args:
        costs: of each weight, by bits.
        sizes: entries of each weight.
        average_bits: the maximum of the mean over all entries.
    """
    allocated = [min(cost) for cost in costs]
    budget = average_bits * sum(sizes) - sum(size * bits for size, bits in zip(sizes, allocated, strict=True))

    def increases() -> Iterable[tuple[float, int, int]]:
        for i, (cost, size) in enumerate(zip(costs, sizes, strict=True)):
            for bits in cost:
                if bits > allocated[i] and size * (bits - allocated[i]) <= budget:
                    yield (cost[allocated[i]] - cost[bits]) / (size * (bits - allocated[i])), -i, bits

    while best := max(increases(), default=None):
        _, i, bits = best
        budget -= sizes[-i] * (bits - allocated[-i])
        allocated[-i] = bits
    return allocated
