"""F1 at a threshold and mean average precision, against scikit-learn and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score
from torchmetrics.classification import MultilabelAveragePrecision, MultilabelF1Score

from distill.tasks.metrics.label_scores import THRESHOLDS, F1AtThreshold, MeanAveragePrecision, average_precision

DRAW = np.random.default_rng(0)
LABELS = (DRAW.random((80, 4)) < 0.3).astype(int)
SCORES = np.clip(0.35 * LABELS + DRAW.random((80, 4)) * 0.6, 0, 1).round(2)  # with ties


def updated(metric: torch.nn.Module, *parts: slice) -> torch.nn.Module:
    for part in parts or (slice(None),):
        metric.update(torch.tensor(SCORES[part], dtype=torch.float32), torch.tensor(LABELS[part]))
    return metric


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_f1_at_a_threshold(average: str) -> None:
    for threshold in (0.255, 0.505, 0.755):  # between scores: torchmetrics takes those above
        value = float(updated(F1AtThreshold(4, average, [threshold])).compute())
        assert value == pytest.approx(f1_score(LABELS, threshold <= SCORES, average=average), abs=1e-6)
        theirs = updated(MultilabelF1Score(4, threshold=threshold, average=average))
        assert value == pytest.approx(float(theirs.compute()), abs=1e-6)


def test_the_threshold_is_the_one_with_the_best_micro_f1() -> None:
    thresholds = [number / 1000 + 0.0005 for number in range(1000)]  # between scores
    metric = updated(F1AtThreshold(4, "micro", thresholds), slice(30), slice(30, 80))
    scores = [f1_score(LABELS, t <= SCORES, average="micro") for t in thresholds]
    assert float(metric.compute()) == pytest.approx(max(scores), abs=1e-6)
    best = metric.best_threshold()
    assert f1_score(LABELS, best <= SCORES, average="micro") == pytest.approx(max(scores))
    macro = updated(F1AtThreshold(4, "macro", thresholds))
    assert macro.best_threshold() == best, "there is one threshold, that of micro F1"
    assert float(macro.compute()) == pytest.approx(f1_score(LABELS, best <= SCORES, average="macro"), abs=1e-6)


def test_of_equal_thresholds_the_middle_one_is_taken() -> None:
    metric = F1AtThreshold(2, "micro")
    metric.update(torch.tensor([[0.1, 0.9], [0.9, 0.1]]), torch.tensor([[0, 1], [1, 0]]))
    assert metric.best_threshold() == pytest.approx(0.5, abs=0.011) and float(metric.compute()) == 1.0
    assert min(THRESHOLDS) == 0.01 and max(THRESHOLDS) == 0.99


def test_a_label_that_nobody_has_or_predicts_is_no_part_of_macro_f1() -> None:
    scores, labels = torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([[1, 0], [0, 0]])
    metric = F1AtThreshold(2, "macro", [0.5])
    metric.update(scores, labels)
    assert float(metric.compute()) == pytest.approx(2 / 3)
    assert float(F1AtThreshold(2, "macro", [0.5]).compute()) == 0.0


def test_mean_average_precision() -> None:
    value = float(updated(MeanAveragePrecision(), slice(30), slice(30, 80)).compute())
    assert value == pytest.approx(average_precision_score(LABELS, SCORES, average="macro"), abs=1e-6)
    assert value == pytest.approx(float(updated(MultilabelAveragePrecision(4)).compute()), abs=1e-6)


def test_a_label_without_rows_has_no_average_precision() -> None:
    found = average_precision(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([[1, 0], [0, 0]]))
    assert float(found[0]) == 1.0 and math.isnan(found[1])
    metric = MeanAveragePrecision()
    metric.update(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([[1, 0], [0, 0]]))
    assert float(metric.compute()) == 1.0
