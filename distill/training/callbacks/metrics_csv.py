"""metrics.csv: one row for each logged step, which a resumed run continues."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from distill.run_dir.files import atomic_write


class MetricsCSV(Logger):
    """Lightning's ``CSVLogger`` deletes the file of the run it continues; this one cuts it back to the rows that were
    there when the checkpoint was written, and goes on.

    Args:
        path: the file.
        columns: all columns after ``step``; known before the run, so that the header never changes.
    """

    def __init__(self, path: Path, columns: list[str]):
        super().__init__()
        self.path, self.columns, self.rows = path, ["step", *columns], 0

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def version(self) -> int:
        """There is one only."""
        return 0

    @rank_zero_only
    def log_hyperparams(self, params: dict) -> None:
        """The config is a file of its own."""

    @rank_zero_only
    def start(self, rows: int) -> None:
        """Begins the file anew, with the first ``rows`` rows of the one that is there."""
        kept = []
        if rows and self.path.exists():
            with self.path.open(newline="") as file:
                kept = list(islice(csv.DictReader(file), rows))
        with atomic_write(self.path) as draft, draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(kept)
        self.rows = len(kept)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Adds a row."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow({"step": step} | metrics)
        self.rows += 1


def read_rows(path: Path) -> list[dict[str, float | None]]:
    """The rows of the file; None where a cell is empty."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [{name: float(cell) if cell else None for name, cell in row.items()} for row in csv.DictReader(file)]
    return [row | {"step": int(row["step"])} for row in rows]
