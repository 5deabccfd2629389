"""The deployed student, its exported file, and the measurements of that file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedModel

from distill.evaluation.batch_dependence import BatchDependence
from distill.evaluation.measure import EvalResult
from distill.tasks.task import Predict


@dataclass
class ExportedFile:
    """An exported file, opened for inference."""

    path: Path
    predict: Predict
    format: str
    runtime: str
    departures: list[str] = field(default_factory=list)
    """Weights that the file does not hold as they were trained."""


@dataclass
class DeployedStudent:
    """The student as it is saved and served."""

    model: PreTrainedModel
    """The student with plain weights, as it is saved."""
    export: ExportedFile | None
    """The file written beside ``student/``, if any."""
    result: EvalResult
    """Predictions and metrics in torch, with the numerics of training."""
    parity: dict[str, float]
    """Largest difference of logits on the first batch from the trained student, after each step of the export."""
    layers: list[dict]
    """By matrix: name, sparsity, bits per weight (None if it is gone), parameters, parameters_before (cutting)."""
    notes: list[str]
    precision: str
    """The precision of the weights in the export."""
    exact: bool = True
    """Whether activations are not quantized, so that logits differ only by the order of sums."""
    report_notes: list[str] = field(default_factory=list)
    """Notes for the report."""
    is_stock: bool = True
    """Whether plain transformers can load it."""


@dataclass
class ExportStats:
    """The measurements of an exported file."""

    format: str
    path: str
    bytes: int
    metrics: dict[str, float]
    latency_ms: dict[str, float]
    agreement: float
    """Share of predictions equal to those of the folded student."""
    largest_difference: float
    """Largest difference of logits on a fixed batch from the trained student."""
    precision: str
    batch_dependence: BatchDependence | None = None
    """The difference between predictions for single texts and for padded batches."""
    departures: list[str] = field(default_factory=list)
    """Weights that the file does not hold as they were trained."""
    latency_spread_ms: dict[str, list[float]] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    is_deployed: bool = False
    """Whether the measurements of the student in the report are those of this file."""

    @property
    def warnings(self) -> list[str]:
        """Return warnings for the report."""
        warnings = [f"{self.path}: {departure}" for departure in self.departures[:3]]
        if len(self.departures) > 3:
            warnings.append(f"{self.path}: {len(self.departures) - 3} more weights are not as they were trained")
        change = self.batch_dependence
        if change and (change.changed > 0.01 or change.largest_difference > 0.5):
            warnings.append(
                f"{self.path} gives logits that depend on padding: for a text alone and in a padded batch they differ "
                f"by up to {change.largest_difference:.2g}, and {change.changed:.1%} of the predictions change "
                f"({change.rows} rows tried); quantize.activations: {{granularity: token, symmetric: true}} avoids it"
            )
        return warnings
