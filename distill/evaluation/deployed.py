"""The student as it will be served, its exported file, and what was measured of that file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedModel

from distill.evaluation.batch_dependence import BatchDependence
from distill.evaluation.measure import EvalResult
from distill.tasks.task import Predict


@dataclass
class Exported:
    """A file with a form of the student of its own."""

    path: Path
    predict: Predict
    format: str
    runtime: str
    departures: list[str] = field(default_factory=list)
    """What of it is not as it was trained."""


@dataclass
class Deployed:
    """The student as it will be served."""

    model: PreTrainedModel
    """With plain weights, as it is saved."""
    export: Exported | None
    """The file that was written beside ``student/``, opened."""
    result: EvalResult
    """In torch, with the numerics it was trained for."""
    parity: dict[str, float]
    """Largest difference of logits on the first batch after folding, cutting and export, from the student as it was
    trained.
    """
    layers: list[dict]
    """Of each matrix: name, sparsity, bits of a number (None if it is gone), parameters, and how many it had before it
    was cut.
    """
    notes: list[str]
    precision: str
    """Of the export."""
    exact: bool = True
    """Whether no inputs are rounded, so that logits differ by the order of sums alone."""
    also: list[str] = field(default_factory=list)
    """What else the report should say."""


@dataclass
class Export:
    """One exported file."""

    format: str
    path: str
    bytes: int
    metrics: dict[str, float]
    latency_ms: dict[str, float]
    agreement: float
    """Share of equal predictions with the folded student."""
    largest_difference: float
    """Of the logits of a fixed batch, from the student as it was trained."""
    precision: str
    batch_dependence: BatchDependence | None = None
    """How far answers to texts alone and in a padded batch are apart."""
    departures: list[str] = field(default_factory=list)
    """Weights that the file does not hold as they were trained."""

    @property
    def warnings(self) -> list[str]:
        """What a reader of its figures should know."""
        found = [f"{self.path}: {departure}" for departure in self.departures[:3]]
        if len(self.departures) > 3:
            found.append(f"{self.path}: {len(self.departures) - 3} more weights are not as they were trained")
        seen = self.batch_dependence
        if seen and (seen.changed > 0.01 or seen.largest_difference > 0.5):
            found.append(
                f"{self.path} says of a text alone and of the same text in a padded batch logits up to "
                f"{seen.largest_difference:.2g} apart, and {seen.changed:.1%} of the predictions change ({seen.rows} "
                "rows tried); quantize.activations: {granularity: token, symmetric: true} makes it one answer"
            )
        return found
