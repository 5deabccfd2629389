"""Focal loss and class weights, against plain loops in float64; a row's weight depends on no other row."""

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from losses.loss import UNLABELED
from losses.outputs.labels import Labels, balanced_weights, label_loss
from students.recording.signals import Trace
from students.structure.outputs import ProblemType
from tests.helpers.families import tiny
from tests.helpers.traces import first

LOGITS = [[2.0, -1.0, 0.5], [0.1, 0.2, -3.0], [-4.0, 4.0, 1.0], [0.0, 0.0, 0.0], [1.0, 3.0, -2.0]]
CLASSES = [0, 2, 1, 1, UNLABELED]
COUNTS = {"LABEL_0": 6, "LABEL_1": 3, "LABEL_2": 1}


def probabilities(row: list[float]) -> list[float]:
    return [math.exp(z) / sum(map(math.exp, row)) for z in row]


def ready(labels: int = 3, problem: ProblemType | None = None, **given: object) -> Labels:
    """The loss after its setup for classes with ``COUNTS``, of 10 rows."""
    loss, config = Labels(**given), tiny("bert", labels=labels).config
    config.problem_type = problem
    loss.setup(config, None)
    loss.setup_classes(COUNTS, rows=10)
    return loss


def summed(loss: Labels, logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, int]:
    batch = {"input_ids": torch.zeros(len(labels), 1, dtype=torch.long), "labels": labels}
    total, count = loss(Trace(logits, {}, {}, {}), None, batch, first(loss))
    assert count == loss.count(batch)
    return float(total), int(count)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_the_focal_loss_is_the_cross_entropy_of_rows_that_are_not_sure(gamma: float) -> None:
    expected = []
    for row, label in zip(LOGITS[:4], CLASSES[:4], strict=True):
        p = probabilities(row)[label]
        expected.append(-((1 - p) ** gamma) * math.log(p))
    actual = label_loss(torch.tensor(LOGITS[:4]), torch.tensor(CLASSES[:4]), focal=gamma)
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-7)


def test_without_gamma_it_is_the_cross_entropy() -> None:
    logits, labels = torch.tensor(LOGITS[:4]), torch.tensor(CLASSES[:4])
    assert torch.equal(label_loss(logits, labels, focal=0.0), label_loss(logits, labels))


@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_the_gradient_of_the_focal_loss_is_right_and_finite_for_sure_predictions(gamma: float) -> None:
    logits = torch.tensor(LOGITS[:4], dtype=torch.float32, requires_grad=True)
    label_loss(logits, torch.tensor(CLASSES[:4]), focal=gamma).sum().backward()
    for row, label, gradient in zip(LOGITS, CLASSES, logits.grad.tolist(), strict=False):
        for c in range(3):
            step = [row[i] + 1e-5 * (i == c) for i in range(3)], [row[i] - 1e-5 * (i == c) for i in range(3)]
            high, low = (-((1 - probabilities(r)[label]) ** gamma) * math.log(probabilities(r)[label]) for r in step)
            assert gradient[c] == pytest.approx((high - low) / 2e-5, abs=1e-4)
    sure = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    label_loss(sure, torch.tensor([0, 0]), focal=gamma).sum().backward()
    assert sure.grad.isfinite().all()


def test_balanced_weights_are_those_of_scikit_learn_and_their_mean_over_rows_is_1() -> None:
    counts = torch.tensor([6, 3, 1])
    weights = balanced_weights(counts)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=[0] * 6 + [1] * 3 + [2])
    assert weights.tolist() == pytest.approx(expected.tolist())
    assert float((weights * counts).sum()) / 10 == pytest.approx(1.0)
    assert balanced_weights(torch.tensor([4, 0])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("weights", ["balanced", {"LABEL_2": 4.0, "LABEL_0": 0.5}])
def test_a_class_weight_is_a_factor_of_its_rows_and_the_count_that_of_rows(weights: str | dict[str, float]) -> None:
    factors = [10 / (3 * count) for count in COUNTS.values()] if weights == "balanced" else [0.5, 1.0, 4.0]
    labelled = list(zip(LOGITS, CLASSES, strict=True))[:4]
    expected = sum(-factors[label] * math.log(probabilities(row)[label]) for row, label in labelled)
    loss = ready(class_weights=weights)
    total, count = summed(loss, torch.tensor(LOGITS), torch.tensor(CLASSES))
    assert (total, count) == (pytest.approx(expected, rel=1e-5), 4)
    parts = [summed(loss, torch.tensor(LOGITS[rows]), torch.tensor(CLASSES[rows])) for rows in (slice(2), slice(2, 5))]
    assert total == pytest.approx(sum(part for part, _ in parts)) and count == sum(count for _, count in parts)


@pytest.mark.parametrize("weights", ["balanced", {"LABEL_2": 4.0}, None])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_each_of_several_labels_is_a_decision_with_its_weights(
    weights: str | dict[str, float] | None, gamma: float
) -> None:
    z = [[1.0, -2.0, 0.3], [0.0, 4.0, -1.0]]
    labels = [[1, 0, UNLABELED], [0, 1, 1]]
    expected = 0.0
    for row, held in zip(z, labels, strict=True):
        for number, (logit, label) in enumerate(zip(row, held, strict=True)):
            if label == UNLABELED:
                continue
            p = 1 / (1 + math.exp(-logit if label else logit))
            count = list(COUNTS.values())[number]
            factor = 1.0
            if weights == "balanced":
                factor = 10 / (2 * (count if label else 10 - count))
            elif weights and label and number == 2:
                factor = 4.0
            expected -= factor * (1 - p) ** gamma * math.log(p)
    loss = ready(problem="multi_label_classification", class_weights=weights, focal=gamma)
    outputs = torch.stack([torch.zeros(2, 3), torch.tensor(z)], -1)
    assert summed(loss, outputs, torch.tensor(labels)) == (pytest.approx(expected, rel=1e-5), 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"focal": -1.0}, "focal: must be a number of at least 0, not -1.0"),
        ({"focal": 2.0, "smoothing": 0.1}, "focal: is not defined for a smoothed target; leave smoothing out"),
        ({"class_weights": {"a": -1.0}}, "class_weights: a: must be a number of at least 0, not -1.0"),
    ],
)
def test_what_is_no_weight_is_refused(given: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Labels(**given)
    assert str(caught.value) == message


def test_what_does_not_fit_the_classes_is_refused() -> None:
    for given in ({"focal": 2.0}, {"class_weights": "balanced"}):
        with pytest.raises(ValueError, match=rf"^{next(iter(given))}: a single output, a number, has no classes"):
            ready(labels=1, **given)
    with pytest.raises(ValueError, match=r"^class_weights: there is no class 'bad'; there are LABEL_0, LABEL_1"):
        ready(class_weights={"bad": 2.0})
    with pytest.raises(ValueError, match=r"^class_weights: needs a single task with classes$"):
        Labels(class_weights="balanced").setup_classes({}, 0)
