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


@dataclass(kw_only=True)
class Tracking:
    """Loggers of the curves besides metrics.csv.

    Args:
        wandb: a project of Weights & Biases; ``WANDB_MODE=offline`` keeps the curves on this machine.
        tensorboard: write TensorBoard files into the run folder.
    """

    wandb: str | None = None
    tensorboard: bool = False

    def __post_init__(self):
        if self.tensorboard and not (find_spec("tensorboard") or find_spec("tensorboardX")):
            raise ValueError("tensorboard: is not installed; install the package of that name")
