"""How many bits each weight has under a limit for all: most where rounding would change the loss most."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from quant_aware.quantizers.fake_quant import FakeQuant
from students import processes


@dataclass(kw_only=True)
class Allot:
    """Bits for each weight, chosen when training on the grid begins.

    ``b`` bits cost a weight ``tr(H) / n · |Q_b(w) - w|²``, H the Hessian of the loss by this weight, n its numbers
    (HAWQ-V2: Dong et al. 2020, arXiv 1911.03852; Q-BERT, Shen et al. 2019, arXiv 1909.05840, has the largest eigenvalue
    in the place of the mean). The bits go where they save most.

    Args:
        average: bits of a number, on average over all weights; the most that one may have are those of the grid.
        batches: of training rows, by which the loss is looked at.
    """

    shorthand: ClassVar[str] = "average"
    average: float
    batches: int = 8

    def __post_init__(self):
        if self.average < 2:
            raise ValueError(f"average: no grid has less than 2 bits, and so no average is {self.average}")
        if self.batches < 1:
            raise ValueError(f"batches: at least 1 is needed, not {self.batches}")


def traces(
    loss: Callable[[dict[str, Tensor]], Tensor], weights: list[Tensor], batches: Iterable[dict[str, Tensor]]
) -> list[float]:
    """The trace of the Hessian of the mean loss over the batches by each weight, over all processes.

    Hutchinson's estimate ``v'Hv``, v of random signs, one draw for each batch and all weights at once: what other
    weights add to it has mean 0. ``Hv`` is the difference of two gradients, so that nothing has to have a second
    derivative.

    Args:
        loss: of a batch, the same each time it is asked.
        weights: that lie beneath, float32; they are moved, and are bit for bit as before in the end.
        batches: at least one.
    """
    draw, found, count = torch.Generator().manual_seed(0), torch.zeros(len(weights), dtype=torch.float64), 0
    kept, trained = [weight.detach().clone() for weight in weights], [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_()  # also what an adapter is trained beside
    # A thousandth of what is usual in each weight: far above rounding, and the third derivative does not matter yet.
    steps = [1e-3 * float(weight.square().mean().sqrt()) or 1e-3 for weight in kept]
    for batch in batches:
        signs = [(torch.randint(2, w.shape, generator=draw) * 2 - 1).to(w) for w in kept]
        gradients = []
        for side in (1, -1):
            with torch.no_grad():
                for weight, old, step, sign in zip(weights, kept, steps, signs, strict=True):
                    weight.copy_(old + side * step * sign)
            gradients.append(torch.autograd.grad(loss(batch), weights, allow_unused=True, materialize_grads=True))
        parts = zip(*gradients, signs, steps, strict=True)
        found += torch.tensor(
            [float(((up - down) * sign).double().sum()) / (2 * step) for up, down, sign, step in parts]
        )
        count += 1
    with torch.no_grad():
        for weight, old, asked in zip(weights, kept, trained, strict=True):
            weight.copy_(old).requires_grad_(asked)
    # in float32, which every device has, and also of one process, that several and one round alike
    found = (
        processes.all_reduce_sum((found / count).to(weights[0].device, torch.float32)).double() / processes.world_size()
    )
    return found.tolist()


@torch.no_grad()
def costs(weight: Tensor, step: FakeQuant, trace: float) -> dict[int, float]:
    """What each number of bits, 2 to those of its grid, costs a weight of which ``traces`` gives this."""
    found, groups = {}, step.grid.divide(weight, step.axis)
    for bits in range(2, step.grid.bits + 1):
        grid = replace(step.grid, bits=bits)
        begun = grid.fake_quantize_learned(groups, grid.qparams(groups)) if grid.learn else grid.round(groups)
        lost = (begun - groups).square().sum()
        # Where the loss is not convex a trace may be below 0; then the weight itself has the word.
        found[bits] = max(trace / weight.numel(), 1e-12) * float(lost)
    return found


def choose(costs: list[dict[int, float]], sizes: list[int], average: float) -> list[int]:
    """The bits of each weight: from the fewest on, always the step that saves most for each bit of the file, while
    there is room for it.

    Args:
        costs: of each weight, by bits.
        sizes: numbers of each weight.
        average: bits of a number, over all weights, at most.
    """
    chosen = [min(cost) for cost in costs]
    room = average * sum(sizes) - sum(size * bits for size, bits in zip(sizes, chosen, strict=True))

    def steps() -> Iterable[tuple[float, int, int]]:
        for i, (cost, size) in enumerate(zip(costs, sizes, strict=True)):
            for bits in cost:
                if bits > chosen[i] and size * (bits - chosen[i]) <= room:
                    yield (cost[chosen[i]] - cost[bits]) / (size * (bits - chosen[i])), -i, bits

    while best := max(steps(), default=None):
        _, i, bits = best
        room -= sizes[-i] * (bits - chosen[-i])
        chosen[-i] = bits
    return chosen
