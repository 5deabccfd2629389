"""When a run is validated, if its trainer does not say: often enough for a curve."""

from __future__ import annotations

import math

from lightning import Callback, LightningModule, Trainer

from prune_schedules.schedule import Timeline

MIN_VALIDATIONS = 5
"""The least number of validations in a run that has as many steps."""


def validation_steps(timeline: Timeline, count: int = MIN_VALIDATIONS) -> set[int]:
    """Return the steps after which a run is validated: at least ``count``, the ends of epochs and the last among them.

    An epoch is divided evenly; a run of ``count`` epochs or more is validated once in each.
    """
    per_epoch = math.ceil(count * timeline.epoch_steps / timeline.total_steps)
    parts = math.ceil(timeline.total_steps / timeline.epoch_steps) * per_epoch
    steps = {math.ceil(part * timeline.epoch_steps / per_epoch) for part in range(1, parts + 1)}
    return {step for step in steps if step < timeline.total_steps} | {timeline.total_steps}


class ValidationSteps(Callback):
    """Validates after the steps of ``validation_steps``; a function of the step alone, so a resumed run does the same.

    Lightning's ``val_check_interval`` divides an epoch from its start, and then misses its end and that of the run,
    whose state may be the best.
    """

    def __init__(self, timeline: Timeline):
        self.steps = validation_steps(timeline)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: object, index: int) -> None:
        """Make this batch the one after which Lightning validates, if it completes such a step."""
        ends_step = (index + 1) % trainer.accumulate_grad_batches == 0
        is_due = ends_step and trainer.global_step + 1 in self.steps
        # Infinity stands for the end of the epoch.
        trainer.val_check_batch = index + 1 if is_due else math.inf
