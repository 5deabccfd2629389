"""The moving average of the student: a callback that updates it, and the teacher that it is."""

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
    """The moving average as a teacher.

    It is a callback, so that it follows the optimizer and is saved in ``last.ckpt``. It is a plain model that averages
    the student's effective weights, after masks and quantization. An average of the raw parameters would contain stale
    values of masked weights. Embeddings alone are averaged before quantization: training quantizes only the rows that
    it looks up.

    Args:
        model: where the average starts; changed in place.
        decay: the fraction of the average that each step keeps.
    """

    def __init__(self, model: PreTrainedModel, decay: Schedule):
        super().__init__(model)
        self.decay = decay
        self._step = 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Record the step at which training starts or resumes."""
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """Update the average after an optimizer step, identically on every rank."""
        if trainer.global_step == self._step:
            return
        names, average = zip(*self.model.named_parameters(), strict=True)
        weights = [attrgetter(name)(module.student).to(old) for name, old in zip(names, average, strict=True)]
        get_ema_multi_avg_fn(self.decay.value(self._step, module.timeline))(average, weights, None)
        self._step = trainer.global_step

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a saved average."""
        self.model.load_state_dict(state)
