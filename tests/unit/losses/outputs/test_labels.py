"""The loss against labels, against plain loops in float64."""

import math

import pytest
import torch

from losses.outputs.labels import Labels, label_loss
from tests.helpers.families import tiny

LOGITS = [[2.0, -1.0, 0.5], [0.1, 0.2, -3.0], [-4.0, 4.0, 1.0], [0.0, 0.0, 0.0]]
CLASSES = [0, 2, 1, 1]


def reference(row: list[float], label: int, smoothing: float) -> float:
    """Cross entropy with a target of which ``smoothing`` is spread over all classes."""
    total, count = sum(math.exp(z) for z in row), len(row)
    targets = [smoothing / count + (1 - smoothing) * (c == label) for c in range(count)]
    return -sum(target * math.log(math.exp(z) / total) for target, z in zip(targets, row, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_classes(smoothing):
    expected = [reference(row, label, smoothing) for row, label in zip(LOGITS, CLASSES, strict=True)]
    actual = label_loss(torch.tensor(LOGITS), torch.tensor(CLASSES), smoothing)
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_real_numbers():
    logits, labels = torch.tensor([[1.5], [-2.0]], dtype=torch.bfloat16), torch.tensor([1.0, 0.5]).double()
    actual = label_loss(logits, labels)
    assert actual.tolist() == [0.25, 6.25] and actual.dtype == torch.float32


def test_the_gradient_is_the_error_of_the_probabilities():
    logits = torch.tensor(LOGITS, requires_grad=True)
    label_loss(logits, torch.tensor(CLASSES)).sum().backward()
    for row, label, gradient in zip(LOGITS, CLASSES, logits.grad.tolist(), strict=True):
        total = sum(math.exp(z) for z in row)
        assert gradient == pytest.approx([math.exp(z) / total - (c == label) for c, z in enumerate(row)], abs=1e-6)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0])
def test_smoothing_is_a_share(smoothing):
    with pytest.raises(ValueError, match=r"^smoothing: "):
        Labels(smoothing=smoothing)


def test_a_regression_has_nothing_to_smooth():
    with pytest.raises(ValueError, match=r"^smoothing: "):
        Labels(smoothing=0.1).setup(tiny("bert", labels=1).config, None)
    Labels().setup(tiny("bert", labels=1).config, None)
