"""report.json: the measurements of all models, and how they were made."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.evaluation.deployed import ExportStats
from distill.evaluation.machine import hardware, versions
from distill.evaluation.measure import ModelStats
from distill.evaluation.on_test import SplitMetrics
from distill.run_dir.files import write_text


@dataclass
class Report:
    """The result of a run; ``to_json`` is report.json."""

    name: str
    task: str
    main_metric: str
    started: str
    seconds: float
    command: str
    seed: int
    models: dict[str, ModelStats]
    timeline: list[dict[str, Any]]
    exports: list[ExportStats] = field(default_factory=list)
    parity: dict[str, float] = field(default_factory=dict)
    """Largest difference of logits on a fixed batch from the trained student, after each step of the export."""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Notes on the run and on how it was measured."""
    baseline: dict[str, float] = field(default_factory=dict)
    """Metrics of a constant prediction."""
    difference: dict[str, list[float]] = field(default_factory=dict)
    """The 95 % interval of student minus teacher, by metric."""
    test: SplitMetrics | None = None
    """The metrics on test rows, if there are any; all others are on validation rows."""
    preflight: dict[str, Any] = field(default_factory=dict)
    """The preflight, as ``Preflight.to_json`` returns it."""
    folder: Path = Path()

    @property
    def ratios(self) -> dict[str, float]:
        """Return the ratios of student and teacher; empty without a teacher."""
        if "teacher" not in self.models:
            return {}
        teacher, student = self.models["teacher"], self.models["student"]
        ratios = {
            "retained": student.metrics[self.main_metric] / teacher.metrics[self.main_metric]
            if teacher.metrics[self.main_metric]
            else 0.0,
        }
        if teacher.bytes and student.bytes:  # a teacher whose outputs are recorded has no size
            ratios["smaller"] = teacher.bytes / student.bytes
        for key in teacher.latency_ms:
            ratios[f"faster_{key}"] = teacher.latency_ms[key] / student.latency_ms[key]
        return ratios

    @property
    def speedups(self) -> dict[str, dict[str, float]]:
        """Return how many times faster the student is than the teacher, by batch: as deployed, and in each runtime.

        In one runtime the difference is the architecture's (in onnxruntime that of the precision, too).
        """
        pairs = {
            "deployed": ("teacher", "student"),
            "torch": ("teacher", "student in torch" if "student in torch" in self.models else "student"),
            "onnxruntime": ("teacher in onnxruntime", "student"),
        }
        return {
            batch: {
                name: self.models[teacher].latency_ms[batch] / self.models[student].latency_ms[batch]
                for name, (teacher, student) in pairs.items()
                if teacher in self.models and (name == "deployed" or self.models[student].runtime == name)
            }
            for batch in (self.models["teacher"].latency_ms if "teacher" in self.models else {})
        }

    def to_json(self) -> dict[str, Any]:
        """Return the data of report.json; numbers that are not finite are null, with a warning each."""
        unknown: dict[str, float] = {}
        values: dict[str, Any] = without_nan(self._values(), unknown)
        values["warnings"] += [f"{name} is {value}, not a number" for name, value in unknown.items()]
        return values

    def _values(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "name": self.name,
            "task": self.task,
            "main_metric": self.main_metric,
            "started": self.started,
            "seconds": self.seconds,
            "command": self.command,
            "seed": self.seed,
            "versions": versions(),
            "hardware": hardware(),
            "notes": self.notes,
            "preflight": self.preflight,
            "models": {name: asdict(model) for name, model in self.models.items()},
            "ratios": self.ratios,
            "speedups": self.speedups,
            "difference": self.difference,
            "baseline": self.baseline,
            "test": asdict(self.test) if self.test else None,
            "timeline": self.timeline,
            "exports": [asdict(export) for export in self.exports],
            "parity": self.parity,
            "warnings": list(self.warnings),
        }

    def write(self) -> None:
        """Write report.json into the run folder."""
        write_text(self.folder / "report.json", json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")


def without_nan(value: Any, unknown: dict[str, float], name: str = "") -> Any:
    """Return plain data with None for numbers that are not finite, and add these to ``unknown`` by dotted name."""
    if isinstance(value, float) and not math.isfinite(value):
        unknown[name] = value
        return None
    if isinstance(value, dict):
        return {key: without_nan(item, unknown, f"{name}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item, unknown, f"{name}.{index}") for index, item in enumerate(value)]
    return value
