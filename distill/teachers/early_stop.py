"""Going on without the teacher once the student is as good."""

from __future__ import annotations

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from distill.tasks.task import Task
from distill.tasks.writing import Writer
from distill.teachers.teacher import FrozenTeacher
from students.recording.signals import Signals


class TeacherEarlyStop(Callback):
    """Sends the teacher away after the first validation in which the student's main metric is no worse than its own.

    The teacher is measured once, on the rows and in the precision of the first validation that counts. Validations
    before the student has its final sparsity and bits do not: what it was before they took something from it is no
    result. This is the one thing in a run that no clock says, so it is kept in the checkpoint.

    Args:
        teacher: the model to pass.
        task: gives the metrics.
        settled: the optimizer step from which the student has its final form.
    """

    def __init__(self, teacher: FrozenTeacher, task: Task, settled: int):
        self.teacher, self.task, self.settled = teacher, task, settled
        self.mark: float | None = None
        self.student: float | None = None
        self.at_step: int | None = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Goes on without the teacher if it was passed before the run was resumed."""
        self._send_away(module)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Empty metrics, for a teacher that is still to be measured."""
        self.measures = self.mark is None and trainer.global_step >= self.settled
        self.metrics = self.task.metrics_in_training().to(module.device)

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: dict, index: int, loader: int = 0
    ) -> None:
        """Measures the teacher on the batch on which the student was."""
        if self.measures:

            def predict(batch: dict[str, Tensor]) -> Tensor:
                return self.teacher.trace(batch, Signals(logits=True)).logits

            with trainer.precision_plugin.forward_context():
                self.task.judge(self.metrics, self.task.select(predict(batch), batch), batch)
                self.task.write(self.metrics, predict if module.shards else Writer(self.teacher.model, predict), batch)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Compares the two."""
        name = self.task.main_metric
        if self.measures:
            self.mark = float(self.metrics.compute()[name])
        if self.mark is None or self.at_step is not None:
            return
        self.student = float(trainer.callback_metrics[f"val/{name}"])
        if self.student <= self.mark if self.task.better == "min" else self.student >= self.mark:
            self.at_step = trainer.global_step
            self._send_away(module)

    def _send_away(self, module: LightningModule) -> None:
        if self.at_step is not None:
            module.without_teacher = True
            self.teacher.to(torch.device("cpu"))

    def note(self) -> str:
        """What came of it, for the report."""
        if self.at_step is None:
            return f"the student did not pass the teacher's {self.task.main_metric} while it trained"
        figures = f"{self.task.main_metric} {self.student:.4f} against {self.mark:.4f}"
        return f"the student passed the teacher ({figures}) and went on without it from step {self.at_step}"

    def state_dict(self) -> dict[str, float | int | None]:
        """The teacher's metric, and when and with what it was passed."""
        return {"mark": self.mark, "student": self.student, "at_step": self.at_step}

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        """What was known before."""
        self.mark, self.student, self.at_step = state["mark"], state["student"], state["at_step"]
