"""Each grid against its definition, written out once more, and what all grids have in common."""

import numpy as np
import pytest
import torch

from quant_aware.grids import Binary, Grid, PowerOfTwo, Ternary, Uniform

GRIDS = {
    "uniform 8": Uniform(),
    "uniform 2": Uniform(bits=2, per=16),
    "ternary": Ternary(),
    "binary": Binary(per="tensor"),
    "powers": PowerOfTwo(bits=4),
    "powers 2": PowerOfTwo(bits=2),
}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def snapped(grid: Grid, weight: torch.Tensor, axis: int = 0) -> torch.Tensor:
    groups = grid.divide(weight, axis)
    return grid.join(grid.snap(groups, grid.fit(groups)), weight, axis)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_saved_makes_what_was_trained(grid, axis):
    weight = random(48, 32)
    groups = grid.divide(weight, axis)
    fit = grid.fit(groups)
    codes = grid.encode(groups, fit)
    assert codes.dtype == torch.long and codes.min() >= 0 and codes.max() < grid.levels
    assert torch.equal(grid.decode(codes, fit), grid.snap(groups, fit))
    assert torch.equal(grid.join(groups, weight, axis), weight)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_zeros_stay_and_there_are_no_more_values_than_said(grid):
    weight = random(4, 32) * (random(4, 32, seed=1) > 0)
    weight[0] = 0
    found = snapped(grid, weight)
    assert (found[weight == 0] == 0).all() and found.isfinite().all() and found[1:].any(dim=1).all()
    for group in grid.divide(found):
        assert len(group.unique()) <= grid.levels + (not grid.whole)


@pytest.mark.parametrize("grid", [grid for grid in GRIDS.values() if grid.per == "row"], ids=lambda grid: f"{grid}")
def test_what_is_masked_may_be_cut_out(grid):
    weight = random(6, 32)
    masked = torch.cat([weight[:, :20], torch.zeros(6, 50), weight[:, 20:]], dim=1)
    found = torch.cat([snapped(grid, masked)[:, :20], snapped(grid, masked)[:, 70:]], dim=1)
    torch.testing.assert_close(found, snapped(grid, weight))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_the_scale_of_a_weight_is_that_of_its_values(grid):
    weight = random(6, 32)
    torch.testing.assert_close(snapped(grid, 4 * weight), 4 * snapped(grid, weight))
    assert snapped(grid, weight.bfloat16()).dtype == torch.bfloat16


def test_ternary_by_hand_and_near_the_best_threshold():
    weight = random(1, 4000).double().numpy()[0]
    delta = 0.7 * np.abs(weight).mean()
    alpha = np.abs(weight)[np.abs(weight) > delta].mean()
    expected = np.where(np.abs(weight) > delta, np.sign(weight) * alpha, 0)
    found = snapped(Ternary(), torch.from_numpy(weight).float()[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    sizes = np.sort(np.abs(weight))[::-1]
    best = (sizes.cumsum() ** 2 / np.arange(1, len(sizes) + 1)).max()
    above = np.abs(weight) > delta
    assert np.abs(weight)[above].sum() ** 2 / above.sum() > 0.995 * best


def test_binary_has_the_factor_of_least_squares():
    weight = random(3, 50).double()
    signs = torch.where(weight >= 0, 1.0, -1.0)
    expected = signs * ((weight * signs).sum(1) / (signs * signs).sum(1))[:, None]
    torch.testing.assert_close(snapped(Binary(), weight.float()).double(), expected, atol=1e-6, rtol=1e-6)


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
    assert torch.equal(snapped(PowerOfTwo(bits=bits), weight[None])[0], expected)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Uniform(bits=1), "^bits: must be 2 to 8, not 1"),
        (lambda: PowerOfTwo(bits=9), "^bits: must be 2 to 8, not 9"),
        (lambda: Ternary(per=1), "^per: must be row, tensor or a number above 1, not 1"),
        (lambda: Uniform(per=7).divide(random(2, 16)), "^per: 16 inputs do not divide into groups of 7"),
    ],
)
def test_mistakes_are_told(make, said):
    with pytest.raises(ValueError, match=said):
        make()
