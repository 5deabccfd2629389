"""Calibration: whether a model is right as often as it is confident (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from torch import Tensor

from distill.reporting.pictures import ACCENT, MUTED, RULE, STYLE, WIDE

BINS = 15


def calibration(confidences: Tensor, correct: Tensor, bins: int = BINS) -> dict:
    """Return the expected calibration error and the bins of confidence that have predictions.

    Args:
        confidences: the probability of each prediction, [N].
        correct: whether each is right, [N].
        bins: the number of bins of equal width; a bin includes its upper edge.

    Returns:
        {error, bins: [{confidence, accuracy, count}]}; the error is the mean over predictions of the distance between
        confidence and accuracy in their bin.
    """
    confidences, correct = confidences.double(), correct.double()
    index = (confidences * bins).ceil().long().clamp(1, bins) - 1
    counts = index.bincount(minlength=bins)
    means = [torch.zeros(bins, dtype=torch.double).index_add(0, index, values) for values in (confidences, correct)]
    confidence, accuracy = (total / counts.clamp(min=1) for total in means)
    return {
        "error": float(((confidence - accuracy).abs() * counts).sum() / len(index)),
        "bins": [
            {"confidence": float(confidence[i]), "accuracy": float(accuracy[i]), "count": int(counts[i])}
            for i in counts.nonzero().flatten().tolist()
        ],
    }


def reliability_curves(models: dict[str, dict], width: float = WIDE) -> Figure:
    """Draw accuracy over confidence for each model, a bin a dot whose area is its share of the predictions.

    ``models`` are the results of ``calibration`` by name. ValueError if there are none.
    """
    if not models:
        raise ValueError("models: nothing to draw")
    side = min(width, 4.2)
    with rc_context(STYLE):
        figure = Figure(figsize=(side, 0.95 * side), layout="constrained")
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color=RULE, linewidth=1)
        axis.text(0.03, 0.07, "calibrated", color=MUTED, rotation=45, ha="left", va="bottom")
        for (name, model), color in zip(models.items(), (MUTED, ACCENT)[-len(models) :], strict=True):
            total = sum(part["count"] for part in model["bins"])
            x, y = ([part[key] for part in model["bins"]] for key in ("confidence", "accuracy"))
            axis.plot(x, y, color=color, linewidth=1.2)
            axis.scatter(x, y, [12 + 160 * part["count"] / total for part in model["bins"]], color=color, label=name)
        for set_locator in (axis.xaxis, axis.yaxis):
            set_locator.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
            set_locator.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
        axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="right predictions")
        axis.grid()
        axis.legend(loc="upper left", frameon=False, markerscale=0.5)
    return figure
