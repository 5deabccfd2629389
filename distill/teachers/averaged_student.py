"""The moving average of the student, as the callback and the teacher that it is while a run goes on."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from lightning import Callback
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from distill.teachers.teacher import FrozenTeacher
from prune_schedules.schedule import Schedule

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer
    from transformers import PreTrainedModel


class AveragedStudent(FrozenTeacher, Callback):
    """The teacher that is the average; a callback, so that it follows the optimizer and lies in ``last.ckpt`` alone.

    It is a plain model and averages what the student computes with: weights after masks and rounding. Averaged beneath
    them, it would be a model that never was, with the stale values of what is masked. Tables alone are averaged before
    rounding: in training only the rows that are looked up are rounded.

    Args:
        model: where the average begins; changed in place.
        decay: the share of it that stays at each step.
    """

    def __init__(self, model: PreTrainedModel, decay: Schedule):
        super().__init__(model)
        self.decay = decay
        self._step = 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Notes the step at which the run begins or goes on."""
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """Follows the student, if the optimizer has made a step; every rank finds the same."""
        if trainer.global_step == self._step:
            return
        names, average = zip(*self.model.named_parameters(), strict=True)
        now = [attrgetter(name)(module.student).to(old) for name, old in zip(names, average, strict=True)]
        get_ema_multi_avg_fn(self.decay.value(self._step, module.timeline))(average, now, None)
        self._step = trainer.global_step

    def state_dict(self) -> dict[str, Tensor]:
        """The average."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on with a saved average."""
        self.model.load_state_dict(state)
