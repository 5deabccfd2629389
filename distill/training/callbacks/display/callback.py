"""The callback that shows the progress of a run on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lightning import Callback, LightningModule, Trainer

from distill.experiment.monitoring import Display
from distill.training.callbacks.curves import CurveLogger
from distill.training.callbacks.display.live import LiveDisplay
from distill.training.callbacks.display.messages import is_live, say
from distill.training.callbacks.display.progress import Progress, duration, next_change

REFRESH_SECONDS = 0.25
"""The time between two drawings of the live display."""


class ProgressDisplay(Callback):
    """Shows the progress after the first step, at intervals, and after the last step; on rank 0 only.

    It reads the last logged values and computes none: that would take a collective operation at a time that every
    process measures for itself.

    Args:
        display: the mode and the interval.
        name: the name of the run.
        entries: the rows of the timeline.
        curve_logger: has the last logged values.
        main_metric: the metric to show first, as ``val/accuracy``.
    """

    def __init__(
        self, display: Display, name: str, entries: Sequence[dict], curve_logger: CurveLogger, main_metric: str
    ):
        self.display, self.name, self.entries, self.curve_logger = display, name, entries, curve_logger
        self.main_metric = main_metric
        self.live = LiveDisplay(name) if is_live(display) else None
        self.interval = REFRESH_SECONDS if self.live else display.interval
        self.is_shown = display.mode != "quiet"
        self.shown_at: float | None = None
        self.shown_step = -1
        self.is_validating = False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        self.is_shown = self.is_shown and trainer.is_global_zero
        self.begun = time.monotonic()
        self.first: tuple[int, float] | None = None
        self.start_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """Show the progress if it is due."""
        # The pace is measured from the end of the first step, which takes longer than the others.
        if self.first is None and trainer.global_step > self.start_step:
            self.first = trainer.global_step, time.monotonic()
        self._tick(trainer, module)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Remember that a validation goes on."""
        self.is_validating = True

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int, loader: int = 0
    ) -> None:
        """Show the progress if it is due: a validation that generates texts takes minutes."""
        self._tick(trainer, module)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Remember that the validation has ended."""
        self.is_validating = False

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Show the last step, and say what follows."""
        if self.is_shown and (self.live or self.shown_step != trainer.global_step):
            self._show(trainer, module)
        self._close()
        if self.is_shown:
            seconds, steps = time.monotonic() - self.begun, trainer.global_step - self.start_step
            text = f"{self.name}: {steps} steps in {duration(seconds)}; now the student is exported and measured"
            self._attempt(lambda: say(self.display, self.name, "trained", text, {"seconds": round(seconds, 1)}))

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self._close()

    def progress(self, trainer: Trainer, module: LightningModule) -> Progress:
        """Return the progress of the run."""
        step, total = trainer.global_step, module.timeline.total_steps
        pace = None
        if self.first is not None and self.first[0] < step < total:
            pace = (time.monotonic() - self.first[1]) / (step - self.first[0])
        metrics = dict(sorted(self.curve_logger.metrics.items(), key=lambda item: item[0] != self.main_metric))
        return Progress(
            step,
            total,
            self.curve_logger.values,
            metrics,
            None if pace is None else pace * (total - step),
            next_change(self.entries, step, total),
            self.is_validating,
        )

    def _tick(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.is_shown or self.first is None:
            return
        if self.shown_at is None or time.monotonic() >= self.shown_at + self.interval:
            self._show(trainer, module)

    def _show(self, trainer: Trainer, module: LightningModule) -> None:
        self.shown_at, self.shown_step = time.monotonic(), trainer.global_step
        progress = self.progress(trainer, module)
        if self.live:
            self._attempt(lambda: self.live.show(progress))
        else:
            self._attempt(lambda: say(self.display, self.name, "progress", progress.line(), progress.to_json()))

    def _attempt(self, write: Callable[[], None]) -> None:
        """Write to the terminal; a run does not end because nobody reads its output any more."""
        try:
            write()
        except OSError:
            self.is_shown = False

    def _close(self) -> None:
        if self.live:
            self._attempt(self.live.close)
