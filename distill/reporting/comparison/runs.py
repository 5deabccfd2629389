"""The models of finished runs as points: quality, bytes, latency; which of them no other model beats."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from distill.config.errors import ConfigError
from distill.evaluation.intervals import percentile_interval
from distill.reporting.comparison.replicates import read_replicates
from distill.reporting.summary import LOWER_IS_BETTER

Cost = Literal["bytes", "batch_1", "batch_32"]


@dataclass(frozen=True)
class Candidate:
    """A model of a finished run.

    Args:
        name: of the run; of its teacher with ``teacher of``.
        quality: the main metric.
        bytes: of its file.
        batch_1: latency of one text, milliseconds.
        batch_32: latency of 32 texts, milliseconds.
        runtime: runtime and precision.
        machine: the CPU and the number of threads.
        folder: of the run.
    """

    name: str
    quality: float
    bytes: int
    batch_1: float
    batch_32: float
    runtime: str
    machine: str
    folder: Path = Path()

    @property
    def is_teacher(self) -> bool:
        """Whether it is the teacher of a run."""
        return self.name.startswith("teacher of ")


@dataclass(frozen=True)
class Comparison:
    """Models of one task.

    Args:
        metric: the main metric.
        candidates: teachers first; of several runs with the same teacher it stands once.
        skipped: folders that hold no finished run.
    """

    metric: str
    candidates: list[Candidate]
    skipped: list[Path]

    @property
    def is_minimized(self) -> bool:
        """Whether a lower metric is better."""
        return self.metric in LOWER_IS_BETTER

    @property
    def machines(self) -> list[str]:
        """The machines on which latencies were measured; they can be compared if it is one."""
        return list(dict.fromkeys(candidate.machine for candidate in self.candidates))

    def gain(self, candidate: Candidate) -> float:
        """Return the quality, negated if lower is better."""
        return -candidate.quality if self.is_minimized else candidate.quality

    def front(self, cost: Cost) -> list[Candidate]:
        """Return the Pareto front, by cost: the models that no other beats in quality at no more of the cost."""
        front: list[Candidate] = []
        for candidate in sorted(self.candidates, key=lambda c: (getattr(c, cost), -self.gain(c))):
            if not front or self.gain(candidate) > self.gain(front[-1]):
                front.append(candidate)
        return front

    def best(self, max_bytes: float | None, max_latency: float | None) -> Candidate | None:
        """Return the student of highest quality within the limits (bytes, and milliseconds for one text), if any."""
        allowed = [
            candidate
            for candidate in self.candidates
            if not candidate.is_teacher
            and (max_bytes is None or candidate.bytes <= max_bytes)
            and (max_latency is None or candidate.batch_1 <= max_latency)
        ]
        return max(allowed, key=lambda c: (self.gain(c), -c.bytes), default=None)

    def difference(self, best: Candidate, other: Candidate) -> list[float] | None:
        """Return the 95 % interval of the quality of one student minus another's, paired by rows.

        None if they were not measured on the same rows in the same order.
        """
        left, right = read_replicates(best.folder), read_replicates(other.folder)
        if not (left and right) or left.rows != right.rows or len(left.values) != len(right.values):
            return None
        return percentile_interval(np.array(left.values) - np.array(right.values))


def read_comparison(folders: list[Path]) -> Comparison:
    """Return the models of the finished runs in these folders.

    Raises:
        ConfigError: if none is finished, or two have different tasks or metrics.
    """
    reports, skipped = {}, []
    for folder in folders:
        if (folder / "report.json").is_file():
            reports[folder] = json.loads((folder / "report.json").read_text("utf-8"))
        elif folder.is_dir():
            skipped.append(folder)
        else:
            raise ConfigError(f"{folder}: there is no such folder")
    if not reports:
        raise ConfigError(f"{', '.join(map(str, folders))}: no finished run; name folders with a report.json")
    first = next(iter(reports))
    for folder, report in reports.items():
        for key in ("task", "main_metric"):
            if report[key] != reports[first][key]:
                values = f"{report[key]}, and that of {first} is {reports[first][key]}"
                raise ConfigError(f"{folder}: its {key.replace('_', ' ')} is {values}; compare runs of one task")
    return Comparison(reports[first]["main_metric"], _candidates(reports), skipped)


def _candidates(reports: dict[Path, dict]) -> list[Candidate]:
    teachers: dict[tuple, Candidate] = {}
    students = []
    for folder, report in reports.items():
        models, metric, machine = report["models"], report["main_metric"], report["hardware"]
        place = f"{machine['cpu']}, {machine['threads']} threads"
        if teacher := models.get("teacher"):
            candidate = _candidate(f"teacher of {folder}", teacher, metric, place, folder)
            if candidate:
                teachers.setdefault((candidate.quality, candidate.bytes), candidate)
        if candidate := _candidate(str(folder), models["student"], metric, place, folder):
            students.append(candidate)
    return [*teachers.values(), *students]


def _candidate(name: str, model: dict, metric: str, machine: str, folder: Path) -> Candidate | None:
    """Return a model of a report; None if its metric is not a number, or it was not timed (recorded outputs)."""
    quality, latency = model["metrics"][metric], model["latency_ms"]
    runtime = f"{model['runtime']} {model['precision']}"
    if quality is None or not latency:
        return None
    return Candidate(name, quality, model["bytes"], latency["batch_1"], latency["batch_32"], runtime, machine, folder)
