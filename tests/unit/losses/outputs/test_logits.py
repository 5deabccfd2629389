"""The losses on logits, against scipy in float64, and what is known of their gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import softmax
from scipy.stats import entropy

from distill.config.schema import subclasses
from losses.outputs.logits import Logits, TemperatureLoss
from losses.outputs.mse import LogitsMSE, logits_mse
from prune_schedules.schedule import Constant, Linear, Steps, Timeline
from students.recording.signals import Trace
from tests.helpers.families import tiny
from tests.helpers.traces import forward_kl

fixed = settings(derandomize=True, deadline=None, database=None)
SOFTENED = list(subclasses(TemperatureLoss).values())
logits = arrays.arrays(np.float64, (2, 4), elements=st.floats(-10, 10, width=32))


def reference_kl(student: np.ndarray, teacher: np.ndarray, t: float) -> np.ndarray:
    """``t^2 KL(p_T, p_S)`` per row, by scipy's relative entropy."""
    return np.array([t**2 * entropy(softmax(b / t), softmax(a / t)) for a, b in zip(student, teacher, strict=True)])


def reference_mse(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """``1/2 |z_S - z_T|^2`` per row."""
    return np.array(
        [sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / 2 for a, b in zip(student, teacher, strict=True)]
    )


def gradient(function, point: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences of the sum of a function."""
    out = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        up, down = point.copy(), point.copy()
        up[index], down[index] = up[index] + step, down[index] - step
        out[index] = (function(up).sum() - function(down).sum()) / (2 * step)
    return out


@fixed
@given(logits, logits, st.floats(0.5, 10))
def test_forward_kl(student, teacher, t):
    actual = forward_kl(torch.tensor(student), torch.tensor(teacher), t)
    np.testing.assert_allclose(actual.numpy(), reference_kl(student, teacher, t), rtol=1e-4, atol=1e-5 * max(1, t**2))
    assert (actual >= -1e-6 * max(1, t**2)).all()


@fixed
@given(logits, logits)
def test_half_squared_distance(student, teacher):
    actual = logits_mse(torch.tensor(student), torch.tensor(teacher))
    np.testing.assert_allclose(actual.numpy(), reference_mse(student, teacher), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "function, reference",
    [
        (lambda s, t: forward_kl(s, t, 2.5), lambda s, t: reference_kl(s, t, 2.5)),
        (logits_mse, reference_mse),
    ],
)
def test_gradients(function, reference):
    student, teacher = np.random.default_rng(0).normal(size=(2, 3, 5))
    z = torch.tensor(student, requires_grad=True)
    function(z, torch.tensor(teacher)).sum().backward()
    np.testing.assert_allclose(z.grad.numpy(), gradient(lambda point: reference(point, teacher), student), atol=1e-5)


def test_kl_and_cross_entropy_have_one_gradient():
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    kl, ce = (student.clone().requires_grad_() for _ in range(2))
    forward_kl(kl, teacher, 3.0).sum().backward()
    (-9.0 * (teacher / 3).softmax(-1) * (ce / 3).log_softmax(-1)).sum().backward()
    torch.testing.assert_close(kl.grad, ce.grad)


def test_a_high_temperature_regresses_the_centred_logits():
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    student.requires_grad_()
    forward_kl(student, teacher, 300.0).sum().backward()
    centred = [z.detach() - z.detach().mean(-1, keepdim=True) for z in (student, teacher)]
    torch.testing.assert_close(student.grad, (centred[0] - centred[1]) / 4, rtol=0, atol=5e-3)


@fixed
@given(logits, st.floats(-50, 50, width=32))
def test_a_shift_of_all_logits_changes_nothing(z, shift):
    assert forward_kl(torch.tensor(z + shift), torch.tensor(z), 1.0).abs().max() < 1e-4


@pytest.mark.parametrize("kind", [Logits, LogitsMSE])
def test_the_numbers_of_outputs_have_to_agree(kind):
    with pytest.raises(ValueError, match="student has 3 outputs, the teacher 4"):
        kind().setup(tiny("bert", labels=3).config, tiny("bert", labels=4).config)


def test_one_output_is_no_distribution():
    config = tiny("bert", labels=1).config
    with pytest.raises(ValueError, match="LogitsMSE"):
        Logits().setup(config, config)
    LogitsMSE().setup(config, config)


@pytest.mark.parametrize("kind", SOFTENED)
def test_a_batch_of_numbers_counts_nothing(kind):
    loss, logits = kind(), torch.randn(4, 1, generator=torch.Generator().manual_seed(0)).requires_grad_()
    batch = {"input_ids": torch.zeros(4, 1, dtype=torch.long), "labels": torch.tensor([1.0, -2.5, 0.3, 4.0])}
    value, count = loss(
        Trace(logits, {}, {}, {}), Trace(-logits.detach(), {}, {}, {}), batch, loss.at(0, Timeline(10, 10))
    )
    value.backward()
    assert value == 0 == count == loss.count(batch)
    assert not logits.grad.any(), "and yet what DDP counts on is there"


@pytest.mark.parametrize(
    "temperature, step",
    [
        (Constant(0.0), 0),
        (Constant(-1.0), 0),
        (Linear(to=4.0), 0),
        (Steps(at={"10%": 2.0, "50%": -2.0}, initial=1.0), 5),
    ],
)
def test_a_temperature_is_above_0_at_every_step(temperature, step):
    with pytest.raises(ValueError, match=rf"^temperature: .* at step {step}"):
        Logits(temperature=temperature).at(step, Timeline(10, 10))
