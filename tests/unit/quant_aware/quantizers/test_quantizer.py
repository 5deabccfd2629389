"""Each grid against its definition, written out once more, and what all grids have in common."""

import numpy as np
import pytest
import torch

from quant_aware.quantizers.codebook import KMeans
from quant_aware.quantizers.fake_quant import FakeQuant
from quant_aware.quantizers.quantizer import Quantizer
from quant_aware.quantizers.ternary import Binary, Ternary
from quant_aware.quantizers.uniform import PowerOfTwo, Uniform

QUANTIZERS = {
    "uniform 8": Uniform(),
    "uniform 2": Uniform(bits=2, granularity=16),
    "ternary": Ternary(),
    "binary": Binary(granularity="tensor"),
    "powers": PowerOfTwo(bits=4),
    "powers 2": PowerOfTwo(bits=2),
    "means": KMeans(bits=3, granularity="row"),
    "learned 4": Uniform(bits=4, learn=True),
    "learned ternary": Ternary(granularity=16, learn=True),
}
LEARNED = {name: quantizer for name, quantizer in QUANTIZERS.items() if quantizer.learn}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rounded_weight(quantizer: Quantizer, weight: torch.Tensor, axis: int = 0) -> torch.Tensor:
    groups = quantizer.to_groups(weight, axis)
    round_ = quantizer.fake_quantize_learned if quantizer.learn else quantizer.fake_quantize
    return quantizer.from_groups(round_(groups, quantizer.qparams(groups)), weight, axis)


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_saved_makes_what_was_trained(quantizer, axis):
    weight = random(48, 32)
    groups = quantizer.to_groups(weight, axis)
    qparams = quantizer.qparams(groups)
    codes = quantizer.encode(groups, qparams)
    assert codes.dtype == torch.long and codes.min() >= 0 and codes.max() < quantizer.levels
    made = (
        quantizer.fake_quantize_learned(groups, qparams)
        if quantizer.learn
        else quantizer.fake_quantize(groups, qparams)
    )
    assert quantizer.learn or torch.equal(quantizer.fake_quantize_dynamic(groups), made)
    assert torch.equal(quantizer.decode(codes, qparams), made)
    assert torch.equal(quantizer.from_groups(groups, weight, axis), weight)


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
def test_zeros_stay_and_there_are_no_more_values_than_said(quantizer):
    weight = random(4, 32) * (random(4, 32, seed=1) > 0)
    weight[0] = 0
    rounded = rounded_weight(quantizer, weight)
    assert (rounded[weight == 0] == 0).all() and rounded.isfinite().all() and rounded[1:].any(dim=1).all()
    for group in quantizer.to_groups(rounded):
        assert len(group.unique()) <= quantizer.levels + (not quantizer.has_zero)


@pytest.mark.parametrize("name", ["uniform 8", "ternary", "powers", "powers 2"])
def test_what_is_masked_may_be_cut_out(name):
    quantizer, weight = QUANTIZERS[name], random(6, 32)
    masked = torch.cat([weight[:, :20], torch.zeros(6, 50), weight[:, 20:]], dim=1)
    rounded = torch.cat([rounded_weight(quantizer, masked)[:, :20], rounded_weight(quantizer, masked)[:, 70:]], dim=1)
    torch.testing.assert_close(rounded, rounded_weight(quantizer, weight))


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
def test_the_scale_of_a_weight_is_that_of_its_values(quantizer):
    weight = random(6, 32)
    torch.testing.assert_close(rounded_weight(quantizer, 4 * weight), 4 * rounded_weight(quantizer, weight))
    assert rounded_weight(quantizer, weight.bfloat16()).dtype == torch.bfloat16


def test_ternary_by_hand_and_near_the_best_threshold():
    weight = random(1, 4000).double().numpy()[0]
    delta = 0.7 * np.abs(weight).mean()
    alpha = np.abs(weight)[np.abs(weight) > delta].mean()
    expected = np.where(np.abs(weight) > delta, np.sign(weight) * alpha, 0)
    rounded = rounded_weight(Ternary(), torch.from_numpy(weight).float()[None])[0].numpy()
    np.testing.assert_allclose(rounded, expected, atol=1e-6)
    sizes = np.sort(np.abs(weight))[::-1]
    best = (sizes.cumsum() ** 2 / np.arange(1, len(sizes) + 1)).max()
    above = np.abs(weight) > delta
    assert np.abs(weight)[above].sum() ** 2 / above.sum() > 0.995 * best


def test_binary_has_the_factor_of_least_squares():
    weight = random(3, 50).double()
    signs = torch.where(weight >= 0, 1.0, -1.0)
    expected = signs * ((weight * signs).sum(1) / (signs * signs).sum(1))[:, None]
    torch.testing.assert_close(rounded_weight(Binary(), weight.float()).double(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_powers_of_two_by_trying_all(bits):
    """p = |w| / 2^floor(log2 |w|) - 1 above a half takes the next exponent; the smallest power or 0, what is nearer."""
    weight = random(1, 500, seed=3)[0]
    p = weight.abs() / 2 ** weight.abs().log2().floor() - 1
    exponent = weight.abs().log2().floor() + (p > 0.5)
    top = exponent.max()
    low = top - (2 ** (bits - 1) - 2)
    expected = weight.sign() * 2 ** exponent.clamp(min=low)
    expected[weight.abs() < 2 ** (low - 1)] = 0
    assert torch.equal(rounded_weight(PowerOfTwo(bits=bits), weight[None])[0], expected)


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize("factor", [1.0, 0.37, 2.9])
def test_what_lies_on_a_grid_is_stored_as_it_is(quantizer, factor):
    """Also where qparams that were learned are not those of the values, and some of these do not occur."""
    groups = quantizer.to_groups(random(48, 32) * (random(48, 32, seed=1) > 0))
    qparams = quantizer.qparams(groups) * (factor if quantizer.learn else 1.0)
    values = (
        quantizer.fake_quantize_learned(groups, qparams) if quantizer.learn else quantizer.fake_quantize_dynamic(groups)
    )
    codes, steps = quantizer.recover_codes(values)
    assert codes.min() >= 0 and codes.max() < quantizer.levels
    made = torch.where(values == 0, 0.0, quantizer.decode(codes, steps))
    torch.testing.assert_close(made, values, rtol=1e-6, atol=1e-7)
    if quantizer.has_zero:
        assert torch.equal(quantizer.decode(codes, steps) == 0, values == 0)


def test_a_learned_step_has_the_gradient_of_lsq():
    """By hand, in float64: round(v / s) - v / s inside, the end outside; and the weight's is 1 inside, 0 outside."""
    quantizer, weight, s = (
        Uniform(bits=3, learn=True),
        random(4, 40).double(),
        torch.tensor([0.3, 0.5, 0.2, 1.0]).double(),
    )
    w, qparams = weight.clone().requires_grad_(), s.view(-1, 1).clone().requires_grad_()
    upstream = random(4, 40, seed=2).double()
    values = quantizer.fake_quantize_learned(w, qparams)
    (values * upstream).sum().backward()
    places = weight / s[:, None]
    expected = places.round().clamp(-3, 3)
    torch.testing.assert_close(values, expected * s[:, None])
    inside = places.abs() < 3
    by_hand = torch.where(inside, places.round() - places, places.sign() * 3)
    torch.testing.assert_close(qparams.grad.flatten(), (by_hand * upstream).sum(1))
    torch.testing.assert_close(w.grad, upstream * inside)
    start = quantizer.qparams(weight.float()).double().flatten()
    torch.testing.assert_close(start, 2 * weight.abs().mean(1) / 3**0.5, rtol=1e-5, atol=0)


def test_learned_factors_have_the_sum_of_their_values_gradients():
    """TTQ: each factor that of the numbers it stands for."""
    quantizer, weight, upstream = Ternary(learn=True), random(2, 50), random(2, 50, seed=1)
    w, qparams = weight.clone().requires_grad_(), torch.tensor([[0.5, 1.5], [1.0, 0.2]], requires_grad=True)
    values = quantizer.fake_quantize_learned(w, qparams)
    (values * upstream).sum().backward()
    above = weight.abs() > 0.7 * weight.abs().mean(1, keepdim=True)
    down, up = above & (weight < 0), above & (weight > 0)
    torch.testing.assert_close(values, up * qparams[:, 1:] - down * qparams[:, :1])
    by_hand = torch.stack([-(upstream * down).sum(1), (upstream * up).sum(1)], dim=1)
    torch.testing.assert_close(qparams.grad, by_hand)
    assert torch.equal(w.grad, upstream)


def test_means_are_means_of_what_is_nearest_and_learn_its_gradients():
    quantizer, weight = KMeans(bits=2), random(1, 3000)
    qparams = quantizer.qparams(weight, iterations=200)
    codes = (weight[..., None] - qparams[:, None]).abs().argmin(-1)
    assert torch.equal(codes, quantizer.encode(weight, qparams))
    means = torch.stack([weight[codes == code].double().mean() for code in range(4)])
    torch.testing.assert_close(qparams[0].double(), means, atol=1e-5, rtol=1e-5)
    # Lloyd and Max: the best four values for a normal distribution, and what they leave of its variance
    torch.testing.assert_close(qparams[0], torch.tensor([-1.51, -0.4528, 0.4528, 1.51]), atol=0.1, rtol=0)
    assert float((quantizer.fake_quantize(weight, qparams) - weight).square().mean()) == pytest.approx(0.1175, abs=0.01)
    mixed = qparams[:, [2, 0, 3, 1]].clone().requires_grad_()  # learned values may pass each other
    upstream = random(1, 3000, seed=1)
    (quantizer.fake_quantize_learned(weight, mixed) * upstream).sum().backward()
    sums = torch.stack([upstream[codes == code].sum() for code in (2, 0, 3, 1)])
    torch.testing.assert_close(mixed.grad[0], sums)


@pytest.mark.parametrize("bits", [1, 6, 7])
def test_a_number_takes_the_nearest_value_of_a_table_of_any_size(bits):
    quantizer, weight, qparams = KMeans(bits=bits, granularity="row"), random(3, 2000), 0.8 * random(3, 2**bits, seed=1)
    codes = quantizer.encode(weight, qparams)
    distances = (weight.double()[..., None] - qparams.sort(dim=1).values.double()[:, None]).abs()
    torch.testing.assert_close(distances.gather(2, codes[..., None])[..., 0], distances.amin(-1), atol=1e-7, rtol=0)


def test_what_is_pruned_has_no_part_in_the_gradient_of_a_value():
    quantizer, mask = KMeans(bits=2, granularity="row"), random(2, 500, seed=1) > 0
    weight, upstream = random(2, 500) * mask, random(2, 500, seed=2)
    qparams = quantizer.qparams(weight).requires_grad_()
    values = quantizer.fake_quantize_learned(weight, qparams)
    (values * upstream).sum().backward()
    codes = quantizer.encode(weight, qparams.detach())
    sums = [[upstream[row][mask[row] & (codes[row] == code)].sum() for code in range(4)] for row in range(2)]
    assert (values[~mask] == 0).all() and (values[mask] != 0).all()
    torch.testing.assert_close(qparams.grad, torch.tensor(sums))


@pytest.mark.parametrize("quantizer", LEARNED.values(), ids=LEARNED)
def test_a_step_learns_only_while_its_grid_is_on(quantizer):
    step, weight = FakeQuant([quantizer, Uniform(bits=2)]), torch.nn.Parameter(random(8, 32))
    step.add_qparams(weight)
    step.current_stage = 0
    step.calibrate(weight)
    assert [parameter.ndim for parameter in step.parameters()] == [1]
    for stage, enabled, moves in [(0, False, False), (0, True, True), (1, True, False)]:
        step.current_stage, step.enabled = stage, enabled
        step.zero_grad()
        (step(weight) * random(8, 32, seed=1)).sum().backward()
        (qparams,) = step.parameters()
        assert bool(qparams.grad.any()) == moves, "and a gradient it always has: other processes wait for it"
    step.current_stage = 0
    step.calibrate(3 * weight.detach())
    torch.testing.assert_close(
        qparams.view(len(quantizer.to_groups(weight)), -1), quantizer.qparams(quantizer.to_groups(3 * weight.detach()))
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(bits=1), "^bits: must be 2 to 8, not 1"),
        (lambda: PowerOfTwo(bits=9), "^bits: must be 2 to 8, not 9"),
        (lambda: KMeans(bits=0), "^bits: must be 1 to 8, not 0"),
        (lambda: Ternary(granularity=1), "^granularity: must be row, tensor or a number above 1, not 1"),
        (
            lambda: Uniform(granularity=7).to_groups(random(2, 16)),
            "^granularity: 16 inputs do not divide into groups of 7",
        ),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
