"""Where a row may have several labels, the losses on outputs are those of a Bernoulli distribution for each label."""

import numpy as np
import pytest
import torch
from scipy.special import expit, xlogy

from distill.tasks.kinds.multi_label import MultiLabel
from losses.loss import UNLABELED, Loss
from losses.outputs.labels import Labels
from losses.outputs.logits import JensenShannon, Logits, ReverseKL, SkewKL, SkewReverseKL, TotalVariation
from losses.outputs.mse import LogitsMSE
from prune_schedules.schedule import Constant
from students.recording.signals import Trace
from tests.helpers.families import tiny
from tests.helpers.traces import first

DRAW = np.random.default_rng(0)
STUDENT, TEACHER = DRAW.normal(0, 3, (6, 3)), DRAW.normal(0, 3, (6, 3))
LABELS = DRAW.integers(0, 2, (6, 3))
T = 2.5


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL of Bernoulli distributions, in float64."""
    return xlogy(p, p / q) + xlogy(1 - p, (1 - p) / (1 - q))


def mixed(p: np.ndarray, q: np.ndarray, weight: float) -> np.ndarray:
    return weight * p + (1 - weight) * q


temperature = {"temperature": Constant(T)}
REFERENCES = {
    "Labels": (Labels(), lambda z, t, y: -xlogy(y, expit(z)) - xlogy(1 - y, expit(-z))),
    "Logits": (Logits(**temperature), lambda z, t, y: T**2 * kl(expit(t / T), expit(z / T))),
    "ReverseKL": (ReverseKL(**temperature), lambda z, t, y: T**2 * kl(expit(z / T), expit(t / T))),
    "JensenShannon": (
        JensenShannon(beta=0.3),
        lambda z, t, y: (
            0.3 * kl(expit(t), mixed(expit(t), expit(z), 0.3)) + 0.7 * kl(expit(z), mixed(expit(t), expit(z), 0.3))
        ),
    ),
    "SkewKL": (SkewKL(), lambda z, t, y: kl(expit(t), mixed(expit(t), expit(z), 0.1))),
    "SkewReverseKL": (SkewReverseKL(), lambda z, t, y: kl(expit(z), mixed(expit(z), expit(t), 0.1))),
    "TotalVariation": (TotalVariation(**temperature), lambda z, t, y: T * abs(expit(z / T) - expit(t / T))),
    "LogitsMSE": (LogitsMSE(), lambda z, t, y: (z - t) ** 2 / 2),
}
every = pytest.mark.parametrize("name", REFERENCES)


def summed(loss: Loss, z: torch.Tensor, t: torch.Tensor, labels: np.ndarray) -> tuple[torch.Tensor, int]:
    """The sum and the count of a loss on outputs [N, L] of student and teacher, as training computes them."""
    config = tiny("bert", labels=3).config
    loss.setup(config, config)
    batch = {"input_ids": torch.zeros(len(labels), 1, dtype=torch.long), "labels": torch.tensor(labels)}
    student, teacher = (Trace(MultiLabel(data="x").select_logits(x, batch), {}, {}, {}) for x in (z, t))
    total, count = loss(student, teacher, batch, first(loss))
    assert count == loss.count(batch)
    return total, int(count)


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(array, dtype=torch.float32) for array in arrays]


@every
def test_the_loss_is_that_of_each_label_and_the_mean_is_over_labels_and_rows(name: str) -> None:
    loss, reference = REFERENCES[name]
    total, count = summed(loss, *tensors(STUDENT, TEACHER), LABELS)
    assert count == 18 and float(total) == pytest.approx(reference(STUDENT, TEACHER, LABELS).sum(), rel=1e-5)


@every
def test_the_gradient_is_right(name: str) -> None:
    loss, reference = REFERENCES[name]
    z, t = tensors(STUDENT, TEACHER)
    summed(loss, z.requires_grad_(), t, LABELS)[0].backward()
    step = 1e-5
    expected = (reference(STUDENT + step, TEACHER, LABELS) - reference(STUDENT - step, TEACHER, LABELS)) / (2 * step)
    np.testing.assert_allclose(z.grad.numpy(), expected, atol=2e-4)


@every
def test_a_student_equal_to_its_teacher_has_no_loss_but_that_of_the_labels(name: str) -> None:
    loss, _ = REFERENCES[name]
    total, _ = summed(loss, *tensors(TEACHER, TEACHER), LABELS)
    assert abs(float(total)) < 1e-5 or name == "Labels"


@every
def test_a_batch_is_the_sum_of_its_parts_in_any_order(name: str) -> None:
    loss, _ = REFERENCES[name]
    z, t = tensors(STUDENT, TEACHER)
    whole = summed(loss, z, t, LABELS)
    order = [5, 2, 0, 4, 1, 3]
    parts = [summed(loss, z[rows], t[rows], LABELS[rows]) for rows in (order[:2], order[2:])]
    assert float(whole[0]) == pytest.approx(sum(float(total) for total, _ in parts), rel=1e-5)
    assert whole[1] == sum(count for _, count in parts)


def test_a_text_without_labels_counts_for_losses_on_the_teacher_only() -> None:
    labels = LABELS.copy()
    labels[4:] = UNLABELED
    z, t = tensors(STUDENT, TEACHER)
    assert summed(REFERENCES["Logits"][0], z, t, labels)[1] == 18
    total, count = summed(REFERENCES["Labels"][0], z, t, labels)
    assert count == 12
    assert float(total) == pytest.approx(REFERENCES["Labels"][1](STUDENT[:4], TEACHER[:4], LABELS[:4]).sum(), rel=1e-5)


def test_smoothing_draws_each_label_to_a_half() -> None:
    total, _ = summed(Labels(smoothing=0.2), *tensors(STUDENT, TEACHER), LABELS)
    soft = 0.8 * LABELS + 0.1
    assert float(total) == pytest.approx(REFERENCES["Labels"][1](STUDENT, TEACHER, soft).sum(), rel=1e-5)
