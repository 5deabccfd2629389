"""What trackers have in common: they take the results of a run, and their failure does not end it."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from distill.config.errors import one_line


@dataclass
class Results:
    """The results of a run.

    Args:
        report: the data of report.json.
        figures: matplotlib's figures by name.
        folder: the run folder, with the student and its exports.
    """

    report: dict
    figures: dict[str, Any]
    folder: Path

    def tables(self) -> dict[str, tuple[list[str], list[list]]]:
        """Return {name: (columns, rows)} of the models, the exports and the timeline."""
        models = [{"model": name} | _flat(model) for name, model in self.report["models"].items()]
        lists = {"models": models, "exports": self.report["exports"], "timeline": self.report["timeline"]}
        return {name: _table([_flat(row) for row in rows]) for name, rows in lists.items() if rows}


def _flat(row: dict) -> dict:
    """Return a row with the entries of inner mappings under ``key/name``."""
    flat: dict = {}
    for key, value in row.items():
        flat |= {f"{key}/{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _table(rows: list[dict]) -> tuple[list[str], list[list]]:
    """Return columns and cells; a cell that a row lacks is None."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return columns, [[row.get(column) for column in columns] for row in rows]


class Tracker(ABC):
    """The base of a logger that a config names, before its class of Lightning; it exists on rank 0 only."""

    key: ClassVar[str]
    """Its key in ``tracking``."""
    failure: str = ""
    """Why it has stopped."""

    @abstractmethod
    def describe(self) -> str:
        """Return where a person finds the run."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row of the curves at an optimizer step."""
        self.attempt(lambda: self.write_metrics(metrics, step))

    def write_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Write a row; by default Lightning's logger does."""
        super().log_metrics(metrics, step)

    def log_results(self, results: Results) -> None:
        """Log the results of the run."""

    def close(self, failed: bool) -> None:
        """End the run, at the end of everything or after a failure."""

    def attempt(self, action: Callable[[], object]) -> None:
        """Call a function; at an error print a line and do nothing from then on: a lost curve must not end a run."""
        if self.failure:
            return
        try:
            action()
        except Exception as error:  # a library, a network or a server may raise anything
            reason = f"{type(error).__name__}: {error}"
            self.failure = one_line(f"tracking.{self.key} has stopped, the run goes on: {reason}")
            print(f"warning: {self.failure}", file=sys.stderr, flush=True)
