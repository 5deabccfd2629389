"""``replicates.json``: a student's main metric on bootstrap resamples, by which two runs are compared on their rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from distill.run_dir.files import write_text
from distill.tasks.task import Task

FILE = "replicates.json"


@dataclass(frozen=True)
class Replicates:
    """The main metric on resamples; those of two runs are of the same rows if ``rows`` are equal.

    Args:
        metric: its name.
        rows: a fingerprint of the validation rows in their order.
        values: of each resample.
    """

    metric: str
    rows: str
    values: list[float]

    def write(self, folder: Path) -> None:
        """Write the file into a run folder."""
        write_text(folder / FILE, json.dumps(asdict(self)))


def write_replicates(folder: Path, task: Task, order: Sequence[int], replicates: dict[str, np.ndarray]) -> None:
    """Write the file of a run, if its rows are those of one data set.

    Args:
        folder: of the run.
        task: of the run.
        order: the indices of the validation rows, as they were evaluated.
        replicates: of the deployed student.
    """
    if task.validation is None or task.main_metric not in replicates:
        return
    digest = hashlib.blake2b(json.dumps(list(order)).encode(), digest_size=16)
    for row in task.validation:  # raw text is cut into pieces, whose numbers are in ``order``
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    values = [round(float(value), 8) for value in replicates[task.main_metric]]
    Replicates(task.main_metric, digest.hexdigest(), values).write(folder)


def read_replicates(folder: Path) -> Replicates | None:
    """Return what the file of a run holds; None if it has none."""
    path = folder / FILE
    return Replicates(**json.loads(path.read_text("utf-8"))) if path.is_file() else None
