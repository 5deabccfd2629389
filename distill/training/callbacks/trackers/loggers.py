"""Open the loggers of a run, and close them at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning import Trainer

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from distill.training.callbacks.display.messages import say
from distill.training.callbacks.metrics_csv import MetricsCSV
from distill.training.callbacks.trackers.tracker import Tracker
from prune_schedules.schedule import Constant


def check_trackers(config: Config[Experiment]) -> None:
    """Check, without the network, that the trackers can be used.

    Raises:
        ConfigError: if nobody is logged in where one has to be.
    """
    if config.value.tracking.wandb:
        from distill.training.callbacks.trackers.weights_and_biases import check_login

        with config.error_context("tracking"):
            check_login()


@contextmanager
def open_loggers(
    config: Config[Experiment],
    folder: Path,
    trainer: Trainer,
    metrics: Sequence[str],
    entries: list[dict],
    start: tuple[int, int],
) -> Iterator[None]:
    """Give the trainer its loggers during the block: metrics.csv, and on rank 0 the trackers of the config.

    Args:
        config: the config of the run.
        folder: the run folder.
        trainer: gets the loggers.
        metrics: the names of the validation metrics.
        entries: the rows of the timeline.
        start: the step from which the run goes on, and the number of rows of metrics.csv up to it.

    Raises:
        ConfigError: if a tracker does not start.
    """
    step, rows = start
    table = MetricsCSV(folder / "metrics.csv", curve_columns(config.value, metrics))
    table.start(rows)
    trackers: list[Tracker] = []
    trainer.loggers, failed = [table], True
    try:
        if trainer.is_global_zero:
            for key, create in _trackers(config.value, folder, entries, step).items():
                with config.error_context(f"tracking.{key}"):
                    trackers.append(create())
                trainer.loggers = [table, *trackers]
                name, text = config.value.name, trackers[-1].describe()
                say(config.value.display, name, "tracker", f"{name}: {text}", {"message": text})
        yield
        failed = False
    finally:
        for tracker in trackers:
            tracker.failure = ""
            tracker.attempt(lambda tracker=tracker: tracker.close(failed))


def curve_columns(experiment: Experiment, metrics: Sequence[str]) -> list[str]:
    """Return the columns of metrics.csv, which are the names of the curves in all trackers."""
    return [
        "progress",
        "loss",
        *(f"train/{name}{end}" for name in experiment.losses for end in ("", "_weight")),
        "lr",
        *["replace"] * bool(experiment.replace),
        *["sparsity"] * bool(experiment.prune),
        *["penalty"] * any(pruner.penalty != Constant(0.0) for pruner in experiment.pruners().values()),
        *["bits"] * bool(experiment.quantize),
        *(f"val/{name}" for name in metrics),
    ]


def _trackers(experiment: Experiment, folder: Path, entries: list[dict], step: int) -> dict[str, Callable[[], Tracker]]:
    """Return by key the functions that start the trackers; a library is imported only where it is used."""
    tracking = experiment.tracking

    def wandb() -> Tracker:
        from distill.training.callbacks.trackers.weights_and_biases import WandbTracker

        return WandbTracker(tracking.wandb, experiment, folder, entries)

    def tensorboard() -> Tracker:
        from distill.training.callbacks.trackers.tensorboard import TensorBoardTracker

        return TensorBoardTracker(experiment, folder, entries, step)

    def mlflow() -> Tracker:
        from distill.training.callbacks.trackers.mlflow import MlflowTracker

        return MlflowTracker(tracking.mlflow, experiment, folder, entries)

    def trackio() -> Tracker:
        from distill.training.callbacks.trackers.trackio import TrackioTracker

        return TrackioTracker(tracking.trackio, experiment, entries, is_resumed=step > 0)

    functions = {"wandb": wandb, "tensorboard": tensorboard, "mlflow": mlflow, "trackio": trackio}
    return {key: create for key, create in functions.items() if getattr(tracking, key)}
