"""Checkpoints of a run: the last state, to resume from, and the best one, to deploy."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO

from distill.run_dir.clock import Clock
from distill.run_dir.files import atomic_write
from distill.training.callbacks.metrics_csv import MetricsCSV
from distill.training.stop import Interrupted, StopHandler


def previous_path(path: Path) -> Path:
    """Return the path of the checkpoint that the one at ``path`` has replaced."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint, its tensors memory-mapped.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if a checksum is wrong, or it cannot be read.
    """
    try:
        # torch.save writes a checksum (CRC-32) of each part, and torch.load does not check it.
        with zipfile.ZipFile(path) as file:
            if part := file.testzip():
                raise ValueError(f"the checksum of {part} does not hold")
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file may raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is damaged ({reason})") from error


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints atomically, and keeps the last but one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint; the ``last.ckpt`` that it replaces is kept."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        keep = previous_path(path) if path.name == LastCheckpoint.NAME else None
        # Opened by Python, whose error names the system's reason; torch's does not.
        with atomic_write(path, keep=keep) as draft, draft.open("wb") as file:
            torch.save(checkpoint, file)


class CheckpointOrigin(Callback):
    """Adds to each ``last.ckpt`` the fingerprints of the run, its time and the number of rows of metrics.csv.

    Args:
        facts: the fingerprints, plain data, kept as ``checkpoint["origin"]``.
        clock: the time of the run so far.
    """

    def __init__(self, facts: dict[str, Any], clock: Clock):
        self.facts, self.clock = facts, clock

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the facts; Lightning does not call it for ``best.ckpt``, which holds weights only."""
        checkpoint["origin"], checkpoint["clock"] = self.facts, self.clock.state()
        checkpoint["curve_rows"] = sum(logger.rows for logger in trainer.loggers if isinstance(logger, MetricsCSV))


class BestCheckpoint(Callback):
    """Writes ``best.ckpt``: the weights with the best metric among states with the final sparsity, bits and shape.

    ``last.ckpt`` records score and step of the best state, not its path, so a folder may move. The best state that
    ``last.ckpt`` records is kept until the next ``last.ckpt``: a newer best state is written beside it.

    Args:
        folder: the folder of checkpoints.
        metric: the metric to monitor.
        better: whether its highest or its lowest value is the best.
        final_form_step: the optimizer step from which the student has its final form.
    """

    NAME = "best.ckpt"

    def __init__(self, folder: Path, metric: str, better: Literal["max", "min"], final_form_step: int):
        self.path, self.metric, self.better = folder / self.NAME, metric, better
        self.final_form_step = final_form_step
        self.score: float | None = None
        self.step: int | None = None
        self.recorded_step: int | None = None
        """The step of the best state that ``last.ckpt`` records."""
        self.warnings: list[str] = []

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the state if its metric is the best so far and the student has its final form."""
        if trainer.global_step < self.final_form_step:
            return
        score = float(trainer.callback_metrics[self.metric])
        if not trainer.strategy.reduce_boolean_decision(self._improves(score)):
            return
        if trainer.is_global_zero and self.step is not None and self.step == self.recorded_step:
            os.replace(self.path, previous_path(self.path))
        self.score, self.step = score, trainer.global_step
        trainer.save_checkpoint(self.path, weights_only=True)

    def _improves(self, score: float) -> bool:
        if self.score is None or math.isnan(score):
            return not math.isnan(score)
        return score > self.score if self.better == "max" else score < self.score

    def state_dict(self) -> dict[str, Any]:
        """Return score and step of the best state."""
        return {"score": self.score, "step": self.step}

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the step that ``last.ckpt`` records."""
        self.recorded_step = self.step

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore score and step, if the file of that state is still there."""
        self.score, self.step, self.recorded_step = state["score"], state["step"], state["step"]
        if self.step is not None and (reason := checkpoint_mismatch(self.path, self.step)):
            self._forget(reason)

    def load_into(self, module: LightningModule) -> None:
        """Load weights and masks of the best state; without one, keep the last state and add a warning."""
        if self.step is not None and (reason := checkpoint_mismatch(self.path, self.step)):
            self._forget(reason)
        if self.step is not None:
            module.load_state_dict(torch.load(self.path, map_location="cpu", weights_only=True)["state_dict"])
        else:
            self.warnings.append(
                f"the last state is deployed: no state with the student's final form, from step {self.final_form_step} "
                f"on, was validated and kept"
            )

    def _forget(self, reason: str) -> None:
        self.warnings.append(
            f"{reason}: the state with the best {self.metric}, {self.score:.4g} at step {self.step}, is lost, and the "
            f"best later state is deployed"
        )
        self.score = self.step = self.recorded_step = None


def checkpoint_mismatch(path: Path, step: int) -> str | None:
    """Return why a file is not the checkpoint of that step; None if it is."""
    try:
        found_step = read_checkpoint(path)["global_step"]
    except FileNotFoundError:
        return f"{path} is gone"
    except ValueError as error:
        return str(error)
    return None if found_step == step else f"{path} is of step {found_step}"


class LastCheckpoint(Callback):
    """Writes ``last.ckpt`` at intervals, and after a stop signal.

    At the end of a step all ranks agree whether to stop, write the checkpoint, and end with ``Interrupted``. A signal
    handler that saved by itself would do so in the middle of a step.

    Args:
        folder: the folder of checkpoints.
        every: optimizer steps between two checkpoints.
        total: the last step of the run, at which a checkpoint is written too.
        stop: the handler of stop signals; None to ignore them.
    """

    NAME = "last.ckpt"

    def __init__(self, folder: Path, every: int, total: int, stop: StopHandler | None = None):
        self.path, self.every, self.total, self.saved_step = folder / self.NAME, every, total, 0
        self.stop = stop or StopHandler()

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Count the steps from the first one of this process."""
        self.saved_step = trainer.global_step

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Let a stop wait for the end of a step from here on."""
        self.stop.in_training = True
        loop = trainer.fit_loop
        # After a checkpoint of an epoch's last step Lightning counts that epoch as done but the next one not as begun;
        # the next epoch's checkpoints would then be resumed at its start.
        if loop.restarted_mid_epoch and loop.epoch_progress.total.processed == loop.epoch_progress.total.started:
            loop.reset_restart_stage()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """Save at the end of an accumulation window, as gradients are not saved; if validation follows, after it."""
        loop = trainer.fit_loop
        if not loop._should_accumulate() and not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save after validation, as a resumed run would skip it; within an accumulation window wait for its end."""
        if not trainer.fit_loop._should_accumulate():
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint if it is due, or if any rank has received a stop signal.

        Raises:
            Interrupted: after the checkpoint, if any rank has received a stop signal.
        """
        code = self.stop.agreed_code(trainer)  # later signals of this rank alone do not count
        if code or trainer.global_step >= self.saved_step + self.every or trainer.global_step == self.total:
            trainer.save_checkpoint(self.path, weights_only=False)
            self.saved_step = trainer.global_step
        # Not trainer.should_stop: it would validate first, which an uninterrupted run does not do here.
        self._end(trainer, code)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Let a stop be immediate from here on, and carry out one that came after the last checkpoint."""
        code = self.stop.agreed_code(trainer)
        self.stop.in_training = False
        self._end(trainer, code or self.stop.code)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Let a stop be immediate: no further step will end."""
        self.stop.in_training = False

    def _end(self, trainer: Trainer, code: int) -> None:
        if code:
            self.stop.code, self.stop.all_agreed = code, True
            raise Interrupted(f"stopped after step {trainer.global_step} of {self.total}", code)
