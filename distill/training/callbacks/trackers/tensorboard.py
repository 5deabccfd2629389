"""TensorBoard: files in the run folder."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger

from distill.config.writer import to_yaml
from distill.experiment.experiment import Experiment
from distill.training.callbacks.trackers.tracker import Results, Tracker


class TensorBoardTracker(Tracker, TensorBoardLogger):
    """Lightning's logger; a resumed run hides the points after the checkpoint that it goes on from.

    Args:
        experiment: the config of the run.
        folder: the run folder.
        entries: the rows of the timeline.
        first_step: the step from which the run goes on.
    """

    key = "tensorboard"

    def __init__(self, experiment: Experiment, folder: Path, entries: list[dict], first_step: int):
        given = {"purge_step": first_step} if first_step else {}
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False, **given)
        if not first_step:
            self.experiment.add_text("config", f"```yaml\n{to_yaml(experiment)}```")
            self.experiment.add_text(
                "timeline", _markdown(["what", "start_step", "stop_step"], map(dict.values, entries))
            )
        self.experiment.flush()

    def describe(self) -> str:
        """Return the command that shows the run."""
        return f"tensorboard: tensorboard --logdir {self.log_dir}"

    def log_results(self, results: Results) -> None:
        """Log tables and pictures."""
        for name, (columns, rows) in results.tables().items():
            self.experiment.add_text(f"tables/{name}", _markdown(columns, rows))
        for name, figure in results.figures.items():
            self.experiment.add_figure(f"pictures/{name}", figure)
        self.experiment.flush()

    def close(self, failed: bool) -> None:
        """Close the file."""
        self.experiment.close()


def _markdown(columns: list[str], rows: object) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
