"""Training without the teacher once the student matches it."""

from __future__ import annotations

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from distill.tasks.task import Task
from distill.tasks.writing import CachedGenerator
from distill.teachers.teacher import FrozenTeacher
from students.recording.signals import Signals


class TeacherEarlyStop(Callback):
    """Drops the teacher after the first validation in which the student's main metric is no worse than the teacher's.

    The teacher is evaluated once, on the rows and in the precision of the first validation that counts. Validations
    before the student has its final sparsity and bit widths do not count. The result is part of the checkpoint, as it
    does not follow from the step.

    Args:
        teacher: the model to match.
        task: gives the metrics.
        final_form_step: the optimizer step from which the student has its final form.
    """

    def __init__(self, teacher: FrozenTeacher, task: Task, final_form_step: int):
        self.teacher, self.task, self.final_form_step = teacher, task, final_form_step
        self.teacher_metric: float | None = None
        self.student_metric: float | None = None
        self.matched_at_step: int | None = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Drop the teacher if it was matched before the run was resumed."""
        self._drop_teacher(module)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Reset the metrics of a teacher that is still to be evaluated."""
        self.measures = self.teacher_metric is None and trainer.global_step >= self.final_form_step
        self.metrics = self.task.training_metrics().to(module.device)

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: dict, index: int, loader: int = 0
    ) -> None:
        """Evaluate the teacher on the student's batch."""
        if self.measures:

            def predict(batch: dict[str, Tensor]) -> Tensor:
                return self.teacher.trace(batch, Signals(logits=True)).logits

            with trainer.precision_plugin.forward_context():
                self.task.update_metrics(self.metrics, self.task.compute_logits(predict, batch), batch)
                self.task.update_generation_metrics(
                    self.metrics, predict if module.fsdp2 else CachedGenerator(self.teacher.model, predict), batch
                )

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Compare the student's metric with the teacher's."""
        name = self.task.main_metric
        if self.measures:
            self.teacher_metric = float(self.metrics.compute()[name])
        if self.teacher_metric is None or self.matched_at_step is not None:
            return
        self.student_metric = float(trainer.callback_metrics[f"val/{name}"])
        sign = -1 if self.task.metric_mode == "min" else 1
        if sign * self.student_metric >= sign * self.teacher_metric:
            self.matched_at_step = trainer.global_step
            self._drop_teacher(module)

    def _drop_teacher(self, module: LightningModule) -> None:
        if self.matched_at_step is not None:
            module.without_teacher = True
            self.teacher.to(torch.device("cpu"))

    def note(self) -> str:
        """Return the outcome, for the report."""
        if self.matched_at_step is None:
            return f"the student did not match the teacher's {self.task.main_metric} during training"
        figures = f"{self.task.main_metric} {self.student_metric:.4f} against {self.teacher_metric:.4f}"
        return f"the student matched the teacher ({figures}) and trained without it from step {self.matched_at_step}"

    def state_dict(self) -> dict[str, float | int | None]:
        """Return the teacher's metric, and the student's metric and step at which it was matched."""
        return {
            "teacher_metric": self.teacher_metric,
            "student_metric": self.student_metric,
            "matched_at_step": self.matched_at_step,
        }

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        """Restore a saved state."""
        self.teacher_metric, self.student_metric, self.matched_at_step = (
            state["teacher_metric"],
            state["student_metric"],
            state["matched_at_step"],
        )
