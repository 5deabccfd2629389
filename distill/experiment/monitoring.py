"""What a person sees while a run goes on: the terminal and trackers. Neither changes what is computed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar, Literal


@dataclass(kw_only=True)
class Display:
    """What the terminal shows while the run goes on.

    Args:
        mode: ``lines`` of text at intervals; ``json``, a JSON object a line; ``quiet``, the path of the report alone;
            ``auto``, a live display on a terminal, else ``lines``.
        interval: seconds between two lines.
    """

    shorthand: ClassVar[str] = "mode"

    mode: Literal["auto", "lines", "json", "quiet"] = "auto"
    interval: float = 30.0

    def __post_init__(self):
        if not 0 <= self.interval < float("inf"):
            raise ValueError(f"interval: must be a number of seconds from 0 on, not {self.interval}")


_PACKAGES = {
    "wandb": ("wandb",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}
"""The packages of a tracker, one of which it needs."""


@dataclass(kw_only=True)
class Tracking:
    """Trackers of the curves besides metrics.csv.

    Args:
        wandb: a project of Weights & Biases; ``WANDB_MODE=offline`` keeps the curves on this machine.
        tensorboard: write TensorBoard files into the run folder.
        mlflow: an experiment of MLflow, on the server of ``MLFLOW_TRACKING_URI``, else in ``.mlflow`` in the folder of
            runs.
        trackio: a project of Trackio.
    """

    wandb: str | None = None
    tensorboard: bool = False
    mlflow: str | None = None
    trackio: str | None = None

    def __post_init__(self):
        for key, packages in _PACKAGES.items():
            value = getattr(self, key)
            if value == "":
                raise ValueError(f"{key}: needs a name; null switches it off")
            if value and not any(find_spec(package) for package in packages):
                raise ValueError(f"{key}: is not installed; `pip install {packages[0]}`")
