"""Linear attention against its recurrence and its sums in float64."""

import math

import pytest
import torch

from students.attention.linear import EfficientCore, EluCore, FavorCore, orthogonal_directions
from tests.helpers.students.queries import HEADS, WIDTH, ask, lengths, qkv, same, softmax


@pytest.mark.parametrize("left", [False, True])
def test_causal_linear_attention_is_its_recurrence(left):
    padding = lengths(150, left)
    query, key, value = tensors = qkv(150)
    phi = [torch.where(x > 0, x + 1, x.exp()) for x in (query, key)]
    expected = torch.zeros_like(value)
    for row in range(3):
        state, total = torch.zeros(HEADS, WIDTH, WIDTH).double(), torch.zeros(HEADS, WIDTH).double()
        for i in padding[row].nonzero().flatten().tolist():
            state = state + phi[1][row, :, i, :, None] * value[row, :, i, None]
            total = total + phi[1][row, :, i]
            query_features = phi[0][row, :, i]
            expected[row, :, i] = torch.einsum("hf,hfd->hd", query_features, state) / (query_features * total).sum(
                -1, keepdim=True
            )
    same(ask(EluCore(), tensors, padding, True, False), expected, padding)


def test_both_orders_of_the_product_of_linear_attention_agree():
    padding = lengths(70)
    query, key, value = tensors = qkv(70)
    phi = [torch.where(x > 0, x + 1, x.exp()) for x in (query, key)]
    weights = (phi[0] @ phi[1].mT) * padding[:, None, None]
    expected = weights / weights.sum(-1, keepdim=True) @ value
    same(ask(EluCore(), tensors, padding, False, False), expected, padding)


def test_both_orders_of_the_product_of_efficient_attention_agree_and_its_weights_sum_to_1():
    padding = lengths(70)
    query, key, value = tensors = qkv(70)
    weights = query.softmax(-1) @ torch.where(padding[:, None, :, None], key, -math.inf).softmax(2).mT
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, HEADS, 70).double())
    same(ask(EfficientCore(), tensors, padding, False, False), weights @ value, padding)


@pytest.mark.parametrize("causal", [False, True])
def test_the_estimate_of_a_performer_gets_better_with_features(causal):
    torch.manual_seed(0)
    padding, (query, key, value) = lengths(30), qkv(30)
    tensors = [query / 2, key / 2, value]
    seen = padding[:, None, None] & (torch.ones(30, 30).tril().bool() if causal else torch.tensor(True))
    expected = softmax(*tensors, seen, 0.5)
    errors = []
    for features in (32, 512, 8192):
        actual = ask(FavorCore(features, WIDTH).double(), tensors, padding, causal, False)
        errors.append(float(torch.where(padding[:, None, :, None], actual - expected, 0.0).abs().mean()))
    # by a quarter at best, as sixteen times as many draws do
    assert errors[0] > 2.5 * errors[1] and errors[1] > 2.5 * errors[2] and errors[2] < 0.01


def test_positive_features_are_right_in_expectation():
    """exp(x . y) is the mean of exp(w . x - x . x / 2) exp(w . y - y . y / 2) over the directions w."""
    torch.manual_seed(0)
    x, y = torch.randn(2, WIDTH).double() * 0.5
    means = []
    for _ in range(400):
        w = orthogonal_directions(WIDTH, WIDTH).double()
        means.append(((w @ x - x @ x / 2).exp() * (w @ y - y @ y / 2).exp()).mean())
    means = torch.stack(means)
    assert abs(means.mean() - (x @ y).exp()) < 4 * means.std() / 20


def test_directions_are_orthogonal_and_as_long_as_normal_ones():
    torch.manual_seed(0)
    w = orthogonal_directions(12, WIDTH)
    assert orthogonal_directions(4096, WIDTH).mean(0).norm() < 0.15, "no direction is likelier than its opposite"
    products = w[:WIDTH] @ w[:WIDTH].T
    torch.testing.assert_close(products, products.diagonal().diag(), atol=1e-4, rtol=0)
    assert orthogonal_directions(4096, WIDTH).square().sum(1).mean() == pytest.approx(WIDTH, rel=0.1)
