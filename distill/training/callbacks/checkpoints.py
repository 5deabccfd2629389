"""What is kept while a run goes on: the last state, to continue from, and the best one, to deploy."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO

from distill.run_dir.files import atomic_write
from distill.training.callbacks.metrics_csv import MetricsCSV
from distill.training.stop import Interrupted, Stop


def previous(path: Path) -> Path:
    """What the checkpoint is called that stood at ``path`` before the one that does now."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, its tensors still on the disk.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if its checksums do not hold, or it cannot be read.
    """
    try:
        # torch.save writes a checksum (CRC-32) of each part, and torch.load does not look at it.
        with zipfile.ZipFile(path) as file:
            if part := file.testzip():
                raise ValueError(f"the checksum of {part} does not hold")
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file may raise anything
        why = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is damaged ({why})") from error


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and keeps the last but one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Writes the file, ``last.ckpt`` beside the one that was there before."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        keep = previous(path) if path.name == Last.NAME else None
        # Written by Python, whose error says what the system says; torch's own does not.
        with atomic_write(path, keep=keep) as draft, draft.open("wb") as file:
            torch.save(checkpoint, file)


class Origin(Callback):
    """Puts into each checkpoint to continue from what the run was begun with, and how many rows its curves had.

    Args:
        facts: plain data, kept as ``checkpoint["origin"]``.
    """

    def __init__(self, facts: dict[str, Any]):
        self.facts = facts

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning calls it for whole checkpoints only, not for ``best.ckpt``."""
        checkpoint["origin"] = self.facts
        checkpoint["curve_rows"] = sum(logger.rows for logger in trainer.loggers if isinstance(logger, MetricsCSV))


class Best(Callback):
    """``best.ckpt``: the weights with the best metric among states that have the final sparsity, bits and shape.

    What a checkpoint to continue from knows of it is score and step, so a folder may move. The file that the last such
    checkpoint knows stays until there is another one: a newer best state is put beside it.

    Args:
        folder: where.
        metric: the curve to watch.
        better: whether its highest or its lowest value is the best.
        settled: the optimizer step from which the student has its final form.
    """

    NAME = "best.ckpt"

    def __init__(self, folder: Path, metric: str, better: Literal["max", "min"], settled: int):
        self.path, self.metric, self.better, self.settled = folder / self.NAME, metric, better, settled
        self.score: float | None = None
        self.step: int | None = None
        self.recorded: int | None = None
        """The step of the best state that the last checkpoint to continue from knows."""
        self.warnings: list[str] = []

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Looks at the metric, if the student is settled."""
        if trainer.global_step < self.settled:
            return
        score = float(trainer.callback_metrics[self.metric])
        if not trainer.strategy.reduce_boolean_decision(self._improves(score)):
            return
        if trainer.is_global_zero and self.step is not None and self.step == self.recorded:
            os.replace(self.path, previous(self.path))
        self.score, self.step = score, trainer.global_step
        trainer.save_checkpoint(self.path, weights_only=True)

    def _improves(self, score: float) -> bool:
        if self.score is None or math.isnan(score):
            return not math.isnan(score)
        return score > self.score if self.better == "max" else score < self.score

    def state_dict(self) -> dict[str, Any]:
        """Score and step of the best state."""
        return {"score": self.score, "step": self.step}

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes what the checkpoint knows."""
        self.recorded = self.step

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the record up, if its state is still there."""
        self.score, self.step, self.recorded = state["score"], state["step"], state["step"]
        if self.step is not None and (why := why_not(self.path, self.step)):
            self._lose(why)

    def load_into(self, module: LightningModule) -> None:
        """Loads the weights, masks included, of the best settled state; without one the last state stays, and a warning
        says so.
        """
        if self.step is not None and (why := why_not(self.path, self.step)):
            self._lose(why)
        if self.step is not None:
            module.load_state_dict(torch.load(self.path, map_location="cpu", weights_only=True)["state_dict"])
        else:
            self.warnings.append(
                f"the last state is deployed: none was validated from step {self.settled} on, where the student has "
                f"its final form, and kept"
            )

    def _lose(self, why: str) -> None:
        self.warnings.append(
            f"{why}: the state with the best {self.metric}, {self.score:.4g} at step {self.step}, is lost, and the "
            f"best of what comes after is deployed"
        )
        self.score = self.step = self.recorded = None


def why_not(path: Path, step: int) -> str | None:
    """Why a file is not the checkpoint of that step; None if it is."""
    try:
        found = read_checkpoint(path)["global_step"]
    except FileNotFoundError:
        return f"{path} is gone"
    except ValueError as error:
        return str(error)
    return None if found == step else f"{path} is of step {found}"


class Last(Callback):
    """``last.ckpt``, every so many steps, and when Ctrl-C or a signal to stop comes.

    At the end of a step all ranks agree on a stop, write the checkpoint where Lightning's own are written, and the run
    ends with ``Interrupted``; a signal's handler that saved by itself would do so in the middle of a step.

    Args:
        folder: where.
        every: optimizer steps between two checkpoints.
        total: the last step, at which one is written too.
        stop: what signals have asked for; without, nothing.
    """

    NAME = "last.ckpt"

    def __init__(self, folder: Path, every: int, total: int, stop: Stop | None = None):
        self.path, self.every, self.total, self.saved = folder / self.NAME, every, total, 0
        self.stop = stop or Stop()

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Begins to count."""
        self.saved = trainer.global_step

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """From here on a stop waits for the end of a step."""
        self.stop.waits = True
        loop = trainer.fit_loop
        # Of a checkpoint of an epoch's last step Lightning counts the epoch as done and not the next one as begun: the
        # checkpoints of that one would be resumed at its start.
        if loop.restarted_mid_epoch and loop.epoch_progress.total.processed == loop.epoch_progress.total.started:
            loop.reset_restart_stage()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """Saves where an accumulation window ends (gradients are not saved), after the validation if one follows."""
        loop = trainer.fit_loop
        if not loop._should_accumulate() and not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Saves after validation, or a resumed run would leave it out; within an accumulation window it waits for its
        end, where a stop that has come meanwhile is carried out, too.
        """
        if not trainer.fit_loop._should_accumulate():
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Writes the checkpoint if it is time, or if any rank was told to stop.

        Raises:
            Interrupted: after a checkpoint that was written in order to stop.
        """
        code = self.stop.agreed(trainer)  # and not what comes to this rank alone while it writes
        if code or trainer.global_step >= self.saved + self.every or trainer.global_step == self.total:
            trainer.save_checkpoint(self.path, weights_only=False)
            self.saved = trainer.global_step
        # Not trainer.should_stop: that would validate first, which an uninterrupted run does not do here.
        self._end(trainer, code)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """From here on a stop waits for nothing; for one that came after the last checkpoint, it was for this."""
        code = self.stop.agreed(trainer)
        self.stop.waits = False
        self._end(trainer, code or self.stop.code)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """No step will end."""
        self.stop.waits = False

    def _end(self, trainer: Trainer, code: int) -> None:
        if code:
            self.stop.code, self.stop.together = code, True
            raise Interrupted(f"stopped after step {trainer.global_step} of {self.total}", code)
