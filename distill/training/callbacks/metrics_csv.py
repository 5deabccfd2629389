"""metrics.csv: a row for each logged step; a resumed run continues the file."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from distill.run_dir.files import atomic_write


class MetricsCSV(Logger):
    """A CSV logger that a resumed run continues; Lightning's ``CSVLogger`` deletes the file instead.

    Args:
        path: the file.
        columns: all columns after ``step``, known before the run, so that the header never changes.
    """

    def __init__(self, path: Path, columns: list[str]):
        super().__init__()
        self.path, self.columns, self.rows = path, ["step", *columns], 0

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.path.name

    @property
    def version(self) -> int:
        """Return 0: there is only one."""
        return 0

    @rank_zero_only
    def log_hyperparams(self, params: dict) -> None:
        """Do nothing: the config has its own file."""

    @rank_zero_only
    def start(self, rows: int) -> None:
        """Write the header and the first ``rows`` rows of an existing file: those of the checkpoint that is resumed."""
        old_rows = []
        if rows and self.path.exists():
            with self.path.open(newline="") as file:
                old_rows = list(islice(csv.DictReader(file), rows))
        with atomic_write(self.path) as draft, draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(old_rows)
        self.rows = len(old_rows)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Append a row."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow({"step": step} | metrics)
        self.rows += 1


def read_rows(path: Path) -> list[dict[str, float | None]]:
    """Return the rows of the file, None for an empty cell."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [{name: float(cell) if cell else None for name, cell in row.items()} for row in csv.DictReader(file)]
    return [row | {"step": int(row["step"])} for row in rows]
