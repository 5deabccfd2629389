"""The divergences, against scipy in float64, and the identities that need no data."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from losses.outputs.correlation import DIST, dist, pearson_distance
from losses.outputs.decoupled import DKD, dkd
from losses.outputs.divergences import jensen_shannon, kl, mixture, skew_kl, soften, total_variation
from losses.outputs.logits import JensenShannon, Logits, ReverseKL, SkewKL, SkewReverseKL, TotalVariation
from losses.outputs.mse import LogitsMSE
from prune_schedules.schedule import Constant, Timeline
from tests.helpers.families import tiny
from tests.unit.losses.outputs.test_logits import fixed, logits

POINTS = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
LOG_P, LOG_Q = POINTS.log_softmax(-1)
P, Q = LOG_P.exp().numpy(), LOG_Q.exp().numpy()


def exact(function, *rest) -> np.ndarray:
    """A divergence of the fixed points in float64."""
    return function(LOG_P, LOG_Q, *rest).numpy()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_mixture(share):
    np.testing.assert_allclose(mixture(LOG_P, LOG_Q, share).exp(), share * P + (1 - share) * Q, rtol=1e-12)


def test_both_directions_of_kl():
    np.testing.assert_allclose(exact(kl), entropy(P, Q, axis=-1), rtol=1e-10)
    np.testing.assert_allclose(kl(LOG_Q, LOG_P), entropy(Q, P, axis=-1), rtol=1e-10)


def test_jensen_shannon_is_scipys():
    np.testing.assert_allclose(exact(jensen_shannon), jensenshannon(P, Q, axis=-1) ** 2, rtol=1e-10)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.7])
def test_jensen_shannon_turned_round_is_that_of_the_other_share(beta):
    mixed = beta * P + (1 - beta) * Q
    expected = beta * entropy(P, mixed, axis=-1) + (1 - beta) * entropy(Q, mixed, axis=-1)
    np.testing.assert_allclose(exact(jensen_shannon, beta), expected, rtol=1e-10)
    np.testing.assert_allclose(jensen_shannon(LOG_Q, LOG_P, 1 - beta), expected, rtol=1e-10)


def test_jensen_shannon_tends_to_kl_at_both_ends():
    np.testing.assert_allclose(exact(jensen_shannon, 1e-8) / 1e-8, exact(kl), rtol=1e-3)
    np.testing.assert_allclose(exact(jensen_shannon, 1 - 1e-8) / 1e-8, kl(LOG_Q, LOG_P), rtol=1e-3)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.5])
def test_skew_kl_is_kl_to_a_mixture_and_bounded(alpha):
    np.testing.assert_allclose(exact(skew_kl, alpha), entropy(P, alpha * P + (1 - alpha) * Q, axis=-1), rtol=1e-10)
    far = torch.tensor([[0.0, -200.0]]), torch.tensor([[-200.0, 0.0]])
    assert 0 < skew_kl(*far, alpha) <= -np.log(alpha) + 1e-6


def test_skew_kl_at_its_ends():
    np.testing.assert_array_equal(exact(skew_kl, 0.0), exact(kl))
    np.testing.assert_array_equal(exact(skew_kl, 1.0), 0)


def test_total_variation_and_pinskers_bound():
    actual = exact(total_variation)
    np.testing.assert_allclose(actual, np.abs(P - Q).sum(-1) / 2, rtol=1e-12)
    assert (actual <= 1).all() and (actual**2 <= exact(kl) / 2).all()


@fixed
@given(logits, logits, st.floats(0.5, 10))
def test_softened_outputs(student, teacher, t):
    log_q, log_p = soften(torch.tensor(student), torch.tensor(teacher), t)
    np.testing.assert_allclose(log_q, log_softmax(student / t, -1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_p, log_softmax(teacher / t, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_likeliest_of_the_teacher_and_the_rest(k, tail):
    log_q, log_p = soften(*POINTS.float(), 2.0, k, tail)
    best = np.argsort(-POINTS[1].numpy(), axis=-1)[:, :k]
    for actual, z in ((log_q, POINTS[0]), (log_p, POINTS[1])):
        expected = np.take_along_axis(softmax(z.numpy() / 2, -1), best, -1)
        rest = 1 - expected.sum(-1, keepdims=True)
        expected = np.concatenate([expected, rest], -1) if tail else expected / expected.sum(-1, keepdims=True)
        np.testing.assert_allclose(actual.exp(), expected, rtol=1e-4, atol=1e-6)


def test_a_tail_below_float32s_precision_is_kept():
    _, log_p = soften(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[30.0, 0.0, -1.0]]), 1.0, 1)
    assert log_p[0, 1] == pytest.approx(-30 + np.log(1 + np.exp(-1)), abs=1e-4)


@pytest.mark.parametrize("k", [5, 50])
def test_all_classes_are_the_whole_distribution(k):
    for actual, full in zip(soften(*POINTS, 1.0, k), soften(*POINTS), strict=True):
        torch.testing.assert_close(actual, full, rtol=0, atol=0)


LABELS = torch.tensor([0, 4, 2, 2, 1, 3])


def test_decoupled_parts_are_the_two_kls():
    rows = np.arange(6)
    p, q = softmax(POINTS[1].numpy() / 3, -1), softmax(POINTS[0].numpy() / 3, -1)
    sure = [np.stack([z[rows, LABELS], 1 - z[rows, LABELS]], -1) for z in (p, q)]
    others = [np.stack([np.delete(row, y) for row, y in zip(z, LABELS, strict=True)]) for z in (p, q)]
    expected = 9 * (0.7 * entropy(*sure, axis=-1) + 5 * entropy(*others, axis=-1))  # entropy() renormalises
    np.testing.assert_allclose(dkd(*POINTS, LABELS, 3.0, 0.7, 5.0), expected, rtol=1e-5)


def test_decoupled_with_the_teachers_own_weight_is_plain_kl():
    log_q, log_p = soften(*POINTS)
    beta = 1 - log_p.exp()[torch.arange(6), LABELS]
    parts = dkd(*POINTS, LABELS, alpha=1.0, beta=0.0) + beta * dkd(*POINTS, LABELS, alpha=0.0, beta=1.0)
    torch.testing.assert_close(parts, kl(log_p, log_q), rtol=1e-4, atol=1e-5)


def test_of_two_classes_only_the_label_is_told():
    two_classes = POINTS[..., :2]
    labels = LABELS.clamp(max=1)
    torch.testing.assert_close(dkd(*two_classes, labels, beta=100.0), dkd(*two_classes, labels, beta=0.0))


def test_correlation_is_numpys():
    expected = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(P, Q, strict=True)]
    np.testing.assert_allclose(pearson_distance(torch.tensor(P), torch.tensor(Q)), expected, rtol=1e-5, atol=1e-6)
    within = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(P.T, Q.T, strict=True)])
    # LOG_P is of the first point: it is the student's here
    actual = dist(POINTS[0], POINTS[1], 1.0, 2.0, 3.0)
    np.testing.assert_allclose(actual, 2 * np.array(expected) + 3 * within, rtol=1e-4)


def test_correlation_takes_no_note_of_scale_and_shift():
    left, right = torch.tensor(P), torch.tensor(Q)
    torch.testing.assert_close(pearson_distance(3 * left + 7, right), pearson_distance(left, right), rtol=0, atol=1e-5)
    torch.testing.assert_close(pearson_distance(left, 2 * left - 1), torch.zeros(6), rtol=0, atol=1e-6)


def test_a_batch_of_one_correlates_within_no_class():
    logits = POINTS[:, :1].float().requires_grad_()
    value = dist(logits[0], logits[1].detach(), 2.0, beta=3.0)
    value.sum().backward()
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(value, 4.0 * 3.0 * pearson_distance(*(logits / 2).softmax(-1)))
    assert float(dist(logits[0], logits[0]).detach()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "kind, fields, message",
    [
        (JensenShannon, {"beta": 0.0}, "beta: must lie between 0 and 1, not 0.0; at the ends use Logits or ReverseKL"),
        (SkewKL, {"alpha": 1.0}, r"alpha: must lie in \[0, 1\), not 1.0"),
        (Logits, {"top_k": 0}, "top_k: 0 leaves no distribution"),
        (Logits, {"top_k": 1, "tail": False}, "top_k: 1 leaves no distribution"),
        (LogitsMSE, {"noise_std": -1.0}, "^noise_std: must be a number of at least 0"),
        (LogitsMSE, {"noise_std": math.nan}, "^noise_std: must be a number of at least 0, not nan"),
        (LogitsMSE, {"noise_probability": 1.5}, "^noise_probability: must lie in"),
        (LogitsMSE, {"noise_std": 0.1, "noise_probability": 0.0}, "^noise_probability: at 0 no prediction is noisy"),
        (DKD, {"alpha": -1.0}, "^alpha: must be a number of at least 0, not -1.0"),
        (DKD, {"beta": math.nan}, "^beta: must be a number of at least 0, not nan"),
        (DKD, {"alpha": 0.0, "beta": 0.0}, "^alpha: with alpha and beta at 0 nothing is compared"),
        (DIST, {"beta": -1.0}, "^beta: must be a number of at least 0"),
        (DIST, {"gamma": -0.5}, "^gamma: must be a number of at least 0, not -0.5"),
        (DIST, {"beta": 0.0, "gamma": 0.0}, "^beta: with beta and gamma at 0 nothing is compared"),
    ],
)
def test_a_wrong_field(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**fields)


@pytest.mark.parametrize(
    "loss, expected",
    [
        (Logits(), lambda p, q: entropy(p, q)),
        (ReverseKL(), lambda p, q: entropy(q, p)),
        (SkewKL(alpha=0.2), lambda p, q: entropy(p, 0.2 * p + 0.8 * q)),
        (SkewReverseKL(alpha=0.2), lambda p, q: entropy(q, 0.8 * p + 0.2 * q)),
        (
            JensenShannon(beta=0.3),
            lambda p, q: 0.3 * entropy(p, 0.3 * p + 0.7 * q) + 0.7 * entropy(q, 0.3 * p + 0.7 * q),
        ),
        (TotalVariation(), lambda p, q: np.abs(p - q).sum() / 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_class_says_which_of_the_two_is_the_teacher(loss, expected):
    loss.temperature = Constant(2.0)
    student, teacher = POINTS
    actual = loss.distance(student, teacher, None, loss.at(0, Timeline(10, 5)))
    p, q = (softmax(z.numpy() / 2, -1) for z in (teacher, student))
    rows = [2.0**loss.power * expected(a, b) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(actual, rows, rtol=1e-4)


def test_a_noisy_teacher_moves_so_much_and_so_many():
    loss, z = LogitsMSE(noise_std=0.5, noise_probability=0.25), torch.ones(4000, 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        actual = loss.distance(z, z, None, loss.at(0, Timeline(10, 5)))
    assert (actual > 0).float().mean() == pytest.approx(0.25, abs=0.03)
    assert 2 / 3 * actual[actual > 0].mean() == pytest.approx(0.5**2, rel=0.1)


def test_a_decoupled_loss_on_one_output():
    config = tiny("bert", labels=1).config
    with pytest.raises(ValueError, match="LogitsMSE"):
        DKD().setup(config, config)


@pytest.mark.parametrize("kind", [Logits, ReverseKL, JensenShannon, SkewKL, SkewReverseKL, TotalVariation])
def test_the_gradient_keeps_its_size_as_the_temperature_grows(kind):
    sizes = []
    for temperature in (200.0, 400.0):
        loss, z = kind(temperature=Constant(temperature)), POINTS[0].float().requires_grad_()
        loss.distance(z, POINTS[1].float(), None, loss.at(0, Timeline(10, 5))).sum().backward()
        sizes.append(float(z.grad.norm()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05) and sizes[0] > 1e-3
