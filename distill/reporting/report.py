"""report.json: what was kept, what was saved, and how it was measured."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.evaluation.deployed import ExportStats
from distill.evaluation.machine import hardware, versions
from distill.evaluation.measure import ModelStats
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
    timeline: list[dict]
    exports: list[ExportStats] = field(default_factory=list)
    parity: dict[str, float] = field(default_factory=dict)
    """Largest difference of logits on a fixed batch: folding and cutting against the student as trained."""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """How it was measured, beyond the hardware."""
    preflight: dict = field(default_factory=dict)
    """What was read before the first step, as ``Preflight.to_json`` gives it."""
    folder: Path = Path()

    @property
    def ratios(self) -> dict[str, float]:
        """Student against teacher; empty without a teacher."""
        if "teacher" not in self.models:
            return {}
        teacher, student = self.models["teacher"], self.models["student"]
        found = {
            "retained": student.metrics[self.main_metric] / teacher.metrics[self.main_metric]
            if teacher.metrics[self.main_metric]
            else 0.0,
            "smaller": teacher.bytes / student.bytes,
        }
        for key in teacher.latency_ms:
            found[f"faster_{key}"] = teacher.latency_ms[key] / student.latency_ms[key]
        return found

    def to_json(self) -> dict:
        """The data of report.json; a number that is not finite is null there, and a warning names it."""
        unknown: dict[str, float] = {}
        values = without_nan(self._values(), unknown)
        values["warnings"] += [f"{name} is {value}, not a number" for name, value in unknown.items()]
        return values

    def _values(self) -> dict:
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
            "timeline": self.timeline,
            "exports": [asdict(export) for export in self.exports],
            "parity": self.parity,
            "warnings": list(self.warnings),
        }

    def write(self) -> None:
        """Writes report.json into the folder of the run."""
        write_text(self.folder / "report.json", json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")


def without_nan(value: Any, unknown: dict[str, float], name: str = "") -> Any:
    """Plain data with None for numbers that JSON does not have; these are added to ``unknown`` by dotted name."""
    if isinstance(value, float) and not math.isfinite(value):
        unknown[name] = value
        return None
    if isinstance(value, dict):
        return {key: without_nan(item, unknown, f"{name}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item, unknown, f"{name}.{at}") for at, item in enumerate(value)]
    return value
