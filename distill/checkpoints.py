"""What is kept while a run goes on: the last state, to continue from, and the best one, to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from distill.stop import Interrupted, Stop


class Best(ModelCheckpoint):
    """``best.ckpt``: the weights with the best metric among states that have the final sparsity, bits and shape.

    Args:
        folder: where.
        metric: the curve to watch.
        better: whether its highest or its lowest value is the best.
        settled: the optimizer step from which the student has its final form.
    """

    def __init__(self, folder: Path, metric: str, better: Literal["max", "min"], settled: int):
        super().__init__(
            folder,
            "best",
            metric,
            mode=better,
            save_weights_only=True,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.settled = settled

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Looks at the metric, if the student is settled."""
        if trainer.global_step >= self.settled:
            super().on_validation_end(trainer, module)


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

    def __init__(self, folder: Path, every: int, total: int, stop: Stop | None = None):
        self.path, self.every, self.total, self.saved = folder / "last.ckpt", every, total, 0
        self.stop = stop or Stop()

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Begins to count."""
        self.saved = trainer.global_step

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """From here on a stop waits for the end of a step."""
        self.stop.waits = True

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
