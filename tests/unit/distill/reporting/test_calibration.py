"""The expected calibration error, by hand and as torchmetrics has it, and its picture."""

import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from distill.reporting.calibration import calibration, reliability_curves


def test_error_by_hand():
    """In (0.5, 0.75] two predictions, 0.65 confident and half right; in (0.75, 1] two, 0.9 confident and all right."""
    found = calibration(torch.tensor([0.6, 0.7, 0.8, 1.0]), torch.tensor([True, False, True, True]), bins=4)
    assert found["error"] == pytest.approx(0.5 * 0.15 + 0.5 * 0.1)
    assert [part["count"] for part in found["bins"]] == [2, 2]
    assert [part["accuracy"] for part in found["bins"]] == [0.5, 1.0]
    assert [part["confidence"] for part in found["bins"]] == pytest.approx([0.65, 0.9])


def test_a_bin_includes_its_upper_edge():
    assert calibration(torch.tensor([0.5]), torch.tensor([True]), bins=2)["bins"][0]["count"] == 1
    found = calibration(torch.tensor([0.5, 0.5000001]), torch.tensor([True, False]), bins=2)
    assert [part["accuracy"] for part in found["bins"]] == [1.0, 0.0]


def test_error_as_torchmetrics_has_it():
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(500, generator=generator)
    labels = (torch.rand(500, generator=generator) < probability**2).long()
    reference = binary_calibration_error(probability, labels, n_bins=15)
    assert calibration(probability, labels)["error"] == pytest.approx(float(reference), abs=1e-5)


def test_picture_has_a_curve_for_each_model():
    models = {
        name: calibration(torch.rand(50, generator=torch.Generator().manual_seed(seed)), torch.ones(50))
        for seed, name in enumerate(("teacher", "student"))
    }
    axis = reliability_curves(models).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["teacher", "student"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("confidence", "right predictions")
    with pytest.raises(ValueError, match="^models:"):
        reliability_curves({})
