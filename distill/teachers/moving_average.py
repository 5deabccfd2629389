"""The student's own past as its teacher: the moving average of its weights."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import PreTrainedModel

from distill.teachers.teacher import FrozenTeacher
from prune_schedules.schedule import Schedule, Timeline


@dataclass(kw_only=True)
class MovingAverage:
    """The moving average of the student as its own teacher (Tarvainen and Valpola 2017, arXiv 1703.01780).

    Args:
        decay: the share of the average that stays at an optimizer step, from 0 to 1.
    """

    teaches: ClassVar[bool] = True
    changes_with_student: ClassVar[bool] = True
    may_know_no_more: ClassVar[bool] = True
    averages_weights: ClassVar[bool] = True

    decay: Schedule

    def check(self, timeline: Timeline) -> None:
        """Raises ValueError if the decay is no share at some step."""
        for step in timeline.sample():
            if not 0 <= self.decay.value(step, timeline) <= 1:
                value = self.decay.value(step, timeline)
                raise ValueError(f"decay: is {value} at step {step}; it is a share, from 0 to 1")

    def begin(self, student: PreTrainedModel) -> AveragedStudent:
        """The average before the first step: a copy of the student as it was built."""
        return AveragedStudent(deepcopy(student), self.decay)


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
