"""Trackio: the local tracker of Hugging Face, with the interface of wandb."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout

from lightning.pytorch.loggers import Logger

from distill.config.writer import dump
from distill.experiment.experiment import Experiment
from distill.training.callbacks.trackers.tracker import Results, Tracker


class TrackioTracker(Tracker, Logger):
    """A logger of Trackio, which Lightning lacks; a resumed run continues the run of its name.

    Args:
        project: the project.
        experiment: the config of the run.
        entries: the rows of the timeline.
        is_resumed: whether the run has steps already; else it is a new one, whatever the project holds.
    """

    key = "trackio"

    def __init__(self, project: str, experiment: Experiment, entries: list[dict], is_resumed: bool):
        import trackio

        super().__init__()
        self.project = project
        with redirect_stdout(io.StringIO()):  # it prints lines, among the run's own or its JSON
            self.run = trackio.init(
                project=project,
                name=experiment.name,
                resume="allow" if is_resumed else "never",
                config={**dump(experiment), "timeline": entries},
                embed=False,
            )

    @property
    def name(self) -> str:
        """Return the project."""
        return self.project

    @property
    def version(self) -> str:
        """Return the name of the run."""
        return self.run.name

    def log_hyperparams(self, params: dict) -> None:
        """Do nothing: the config was given at the start."""

    def write_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Write a row."""
        self.run.log(dict(metrics), step=step)

    def describe(self) -> str:
        """Return the command that shows the run."""
        return f"trackio: trackio show --project {self.project}"

    def log_results(self, results: Results) -> None:
        """Log ratios and tables."""
        import trackio

        tables = {
            f"tables/{name}": trackio.Table(columns=columns, data=rows)
            for name, (columns, rows) in results.tables().items()
        }
        ratios = {f"report/{name}": value for name, value in results.report["ratios"].items()}
        self.run.log(tables | ratios)

    def close(self, failed: bool) -> None:
        """Finish the run; by the run's own method it would be finished again, with a line, when the process ends."""
        import trackio

        with redirect_stdout(io.StringIO()):
            trackio.finish()
