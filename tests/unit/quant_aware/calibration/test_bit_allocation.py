"""Bits under a limit: the traces against whole Hessians, the choice against all choices."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from quant_aware.calibration.bit_allocation import BitAllocation, allocate, hessian_traces, quantization_costs
from quant_aware.quantize import Quantize
from quant_aware.quantizers.fake_quant import FakeQuant
from quant_aware.quantizers.ternary import Ternary
from quant_aware.quantizers.uniform import Uniform

LIMITS = (2.0, 2.5, 3.0, 4.5, 7.9, 8.0, 20.0)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_of_a_bowl_each_draw_is_the_trace():
    """Where no number hangs on another v'Hv is the trace, whatever v; what is asked is as it was, to the bit."""
    weights = [nn.Parameter(drawn(4, 6)), nn.Parameter(drawn(5, seed=1), requires_grad=False)]
    before = [weight.detach().clone() for weight in weights]
    curves = [drawn(4, 6, seed=2).abs(), drawn(5, seed=3).abs()]

    def loss(batch: dict[str, Tensor]) -> Tensor:
        return sum((c * w.square()).sum() for c, w in zip(curves, weights, strict=True)) / 2 * batch["scale"]

    traces = hessian_traces(loss, weights, [{"scale": torch.tensor(scale)} for scale in (1.0, 3.0)])
    assert traces == pytest.approx([2 * float(c.double().sum()) for c in curves], rel=1e-3)
    assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))
    assert [weight.requires_grad for weight in weights] == [True, False]


def test_over_many_draws_it_is_the_trace_of_each_weights_own_hessian():
    first, second = nn.Parameter(drawn(4, 3)), nn.Parameter(drawn(2, 4, seed=1))
    rows, labels = drawn(16, 3, seed=2), torch.arange(16) % 2

    def loss(vector: Tensor, two: Tensor) -> Tensor:
        return nn.functional.cross_entropy(torch.tanh(rows.to(vector) @ vector.T) @ two.T, labels)

    whole = torch.autograd.functional.hessian(loss, (first.double(), second.double()))
    parts = [
        [part.reshape(vector.numel(), -1) for part in row] for vector, row in zip((first, second), whole, strict=True)
    ]
    traces = hessian_traces(lambda batch: loss(first, second), [first, second], [{}] * 1500)
    for of in (0, 1):
        own, other = (
            parts[of][of],
            parts[of][1 - of]
            * float((second, first)[of].square().mean().sqrt() / (first, second)[of].square().mean().sqrt()),
        )
        apart = 2 * (own - own.diagonal().diag()).square().sum() + other.square().sum()
        assert traces[of] == pytest.approx(float(own.trace()), abs=3 * float(apart / 1500) ** 0.5)
        assert abs(traces[of]) > 3 * float(apart / 1500) ** 0.5, "so far from 0 that the sign is right"


@pytest.mark.parametrize("learn", [False, True])
def test_what_bits_cost(learn):
    """Of a grid that learns by the values with which training on it begins: large ones are clipped."""
    weight, step = drawn(3, 8), FakeQuant([Uniform(bits=5, learn=learn)])
    costs = quantization_costs(weight, step, 12.0)
    assert list(costs) == [2, 3, 4, 5]
    for bits, cost in costs.items():
        top = 2 ** (bits - 1) - 1
        sizes = weight.double().abs()
        scale = 2 * sizes.mean(1, keepdim=True) / top**0.5 if learn else sizes.amax(1, keepdim=True) / top
        lost = ((weight / scale).round().clamp(-top, top) * scale - weight).square().sum()
        assert cost == pytest.approx(12.0 / 24 * float(lost), rel=1e-4)
    assert all(cost > 0 for cost in quantization_costs(weight, step, -3.0).values()), (
        "a trace below 0 is no reason for fewer bits"
    )


@pytest.mark.parametrize("average", LIMITS[1:])
def test_the_choice_is_the_best_of_all(average):
    """Where weights are of one size, and each bit saves less than the one before."""
    offered = [{bits: scale * 4.0**-bits for bits in range(2, 9)} for scale in (1.0, 30.0, 0.01, 900.0)]
    chosen = allocate(offered, [10] * 4, average)
    assert sum(chosen) <= 4 * average
    possible = (bits for bits in product(range(2, 9), repeat=4) if sum(bits) <= 4 * average)
    best = min(sum(cost[b] for cost, b in zip(offered, bits, strict=True)) for bits in possible)
    assert sum(cost[b] for cost, b in zip(offered, chosen, strict=True)) == pytest.approx(best)


@pytest.mark.parametrize("average", LIMITS)
def test_the_limit_holds_for_weights_of_any_size(average):
    sizes = [3000, 70, 512, 9]
    offered = [{bits: float(drawn(1, seed=i).exp()) * 3.0**-bits for bits in range(2, 9)} for i in range(4)]
    chosen = allocate(offered, sizes, average)
    used = sum(size * bits for size, bits in zip(sizes, chosen, strict=True))
    assert used <= average * sum(sizes)
    if average == 20.0:
        assert chosen == [8] * 4
    if average == 2.0:
        assert chosen == [2] * 4


@pytest.mark.parametrize(
    "given, message",
    [
        (
            {"weights": Ternary(), "bit_allocation": BitAllocation(average_bits=3)},
            "bit_allocation: needs weights to be one Uniform quantizer of more bits",
        ),
        (
            {"weights": Uniform(bits=4), "bit_allocation": BitAllocation(average_bits=4)},
            "bit_allocation: needs weights to be one Uniform quantizer of more bits",
        ),
        (
            {"weights": {"0%": Uniform(), "5%": Uniform(bits=4)}, "bit_allocation": BitAllocation(average_bits=3)},
            "bit_allocation: needs weights to be one Uniform quantizer",
        ),
        (
            {"bit_allocation": BitAllocation(average_bits=3), "target": "onnxruntime"},
            "target: onnxruntime needs 8 bits",
        ),
    ],
)
def test_what_cannot_be_is_told(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Quantize(**given)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"average_bits": 1.5}, "average_bits: must be at least 2"),
        ({"average_bits": 3, "batches": 0}, "batches: must be at least 1"),
    ],
)
def test_numbers_that_cannot_be_are_told(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        BitAllocation(**given)
