"""The training loop: a trace of teacher and student, a weighted sum of losses, one optimizer step.

::

    for every batch:
        learning rate, loss weights, temperatures          pure functions of the step
        teacher trace                                      without gradient, only what an active loss needs
        student trace                                      the same; a peer is trained alike, with roles swapped
        loss = Σ weight · Σ sum / Σ count                  over the accumulation window and all ranks
        backward, and an optimizer step at the window's end
        callbacks update masks and fake quantization       prune_schedules/callback.py, quant_aware/callback.py
    at least five times a run: the metrics of the student on validation
"""

from __future__ import annotations

from functools import reduce
from operator import or_

import torch
from lightning import LightningModule
from torch import Tensor, nn
from transformers import PreTrainedModel

from distill.experiment.optimizer import Optimizer
from distill.tasks.task import Task
from distill.tasks.writing import CachedGenerator
from distill.teachers.peer import LearningPeer, uses_logits_only
from distill.teachers.teacher import FrozenTeacher
from distill.training.fsdp2 import FSDP2Strategy, frozen_models, register_trace_hooks
from distill.training.optimizer import build_optimizer, frozen_parameters
from distill.training.step_values import StepValues, step_values
from losses.loss import Loss
from prune_schedules.schedule import Timeline
from students.processes import all_reduce_sum
from students.recording.batch import Batch
from students.recording.signals import Signals
from students.recording.trace import Recorder


class Distillation(LightningModule):
    """A student, its losses, and the teacher that they compare it with.

    Args:
        student: the model to train, in float32.
        teacher: the model to imitate; None to train on labels alone. A peer is trained as well.
        losses: the terms of the loss by name, after ``setup``.
        task: gives the metrics.
        optimizer: the settings of the optimizer and its learning rate.
        timeline: the length of the run.
        seed: of dropout; the seed of a batch is a function of (seed, batch, rank).
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: FrozenTeacher | LearningPeer | None,
        losses: dict[str, Loss],
        task: Task,
        optimizer: Optimizer,
        timeline: Timeline,
        seed: int = 0,
    ):
        super().__init__()
        self.student, self.losses = student, nn.ModuleDict(losses)
        self.teacher, self.task, self.optimizer, self.timeline, self.seed = teacher, task, optimizer, timeline, seed
        self.peer = teacher.model if isinstance(teacher, LearningPeer) else None
        self.without_teacher = False
        """Whether losses that need the teacher are switched off."""
        self.recorder = Recorder(student)
        self.metrics = task.training_metrics()
        self.values: StepValues | None = None
        """The scheduled values of the current step."""
        self.loss_sums: dict[str, Tensor] = {}
        """The unweighted value of each loss, summed over the accumulation window."""
        self.window = torch.ones(len(losses))
        """The counts [losses] of the current accumulation window, over all ranks."""

    @property
    def curves(self) -> dict[str, float]:
        """Return learning rate and loss weights of the current step, by column of metrics.csv."""
        weights = {f"train/{name}_weight": values.weight for name, values in self.values.losses.items()}
        return {"lr": self.values.lr} | weights

    @property
    def fsdp2(self) -> FSDP2Strategy | None:
        """Return the strategy if it is fsdp2."""
        return self.trainer.strategy if isinstance(self.trainer.strategy, FSDP2Strategy) else None

    def configure_model(self) -> None:
        """Shard the models under fsdp2: masks and quantizers are attached by now, and there is no optimizer yet."""
        if self.fsdp2:
            self.fsdp2.shard([self.student, *frozen_models(self.teacher)], self.losses.values(), self.trainer)

    def on_fit_start(self) -> None:
        """Move the teacher to the device: it is no submodule, so Lightning does not."""
        if self.teacher is not None:
            self.teacher.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Put the student in train mode: ``from_pretrained`` returns eval mode, and ``fit`` keeps it."""
        self.student.train()
        if self.peer is not None:
            self.peer.train()

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        """Set the seed and everything else that is a function of the step."""
        batches = self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed((self.seed + 1009 * batches + 7919 * self.global_rank) % 2**63)
        self.values = self._step_values()
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.values.lr
        if index % self.trainer.accumulate_grad_batches == 0:
            self.window = all_reduce_sum(batch["window"])

    def _step_values(self) -> StepValues:
        return step_values(self.global_step, self.timeline, self.optimizer, self.losses, self.without_teacher)

    def probe(self, batch: Batch) -> Tensor:
        """Return the current training loss of one batch, without dropout and without side effects."""
        batch, loss_sums, mode = (
            self.transfer_batch_to_device(batch, self.device, 0),
            self.loss_sums,
            self.student.training,
        )
        self.loss_sums = {}
        self.student.eval()
        loss = self._loss(batch, all_reduce_sum(batch["counts"]), self._step_values())
        self.student.train(mode)
        self.loss_sums = loss_sums
        return loss * self.trainer.world_size

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss of one batch, scaled to cancel Lightning's mean over accumulation window and ranks."""
        loss = self._loss(batch, self.window, self.values)
        return loss * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def _loss(self, batch: Batch, window: Tensor, values: StepValues) -> Tensor:
        """Return the share of this batch in the loss normalized by the counts of ``window``; 0 for an idle batch."""
        active = {name: loss for name, loss in self.losses.items() if values.losses[name].weight != 0}
        needs = [loss.signals_at(values.losses[name]) for name, loss in active.items()]
        student_signals = reduce(or_, (student for student, _ in needs), Signals(logits=True))
        teacher_signals = reduce(or_, (teacher for _, teacher in needs), Signals())
        student = self.recorder.trace(batch, student_signals)
        if self.fsdp2:
            register_trace_hooks(self.student, student)
        needs_teacher = teacher_signals or self.peer is not None
        teacher = self.teacher.trace(batch, teacher_signals) if needs_teacher else None
        for trace in (student, teacher):
            if trace is not None and trace.logits is not None:
                trace.logits = self.task.select_logits(trace.logits, batch)
        teacher_outputs = teacher.detached() if self.peer is not None else teacher
        counts = dict(zip(self.losses, window, strict=True))
        terms, is_active = [], float("idle" not in batch)
        with torch.autocast(self.device.type, enabled=False):
            for name, loss in active.items():
                count, loss_values = counts[name].clamp(min=1).float(), values.losses[name]
                term = loss(student, teacher_outputs, batch, loss_values)[0] / count * is_active
                self.loss_sums[name] = self.loss_sums.get(name, 0.0) + term.detach()
                terms.append(loss_values.weight * term)
                if self.peer is not None and uses_logits_only(loss):  # the peer learns from the student alike
                    peer_term = loss(teacher, student.detached(), batch, loss_values)[0]
                    terms.append(loss_values.weight * peer_term / count * is_active)
        # Only without an active loss: with gradients of zero, unlike none, the optimizer still applies weight decay.
        return sum(terms) if terms else student.logits.sum() * 0.0

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Remove the gradients of frozen parameters before clipping; AdamW skips parameters without a gradient."""
        for parameter in frozen_parameters(self.optimizer, self.student, self.global_step, self.timeline):
            parameter.grad = None

    def validation_step(self, batch: Batch, index: int) -> Tensor:
        """Update the metrics with a batch, and return the logits that they compare."""

        def predict(batch: Batch) -> Tensor:
            return self.recorder.trace(batch, Signals(logits=True)).logits

        logits = self.task.compute_logits(predict, batch)
        self.task.update_metrics(self.metrics, logits, batch)
        # All processes must run each pass of a sharded model, and their texts may differ in length.
        self.task.update_generation_metrics(
            self.metrics, predict if self.fsdp2 else CachedGenerator(self.student, predict), batch
        )
        return logits

    def on_validation_epoch_end(self) -> None:
        """Log the metrics, for the checkpoints and the curves."""
        if self.fsdp2:
            self.fsdp2.forward_sync.finish()
        values = {f"val/{name}": value for name, value in self.metrics.compute().items()}
        self.metrics.reset()
        self.log_dict(values, logger=False, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW over the trained parameters: student, peer and the projections of the losses."""
        return build_optimizer(self.optimizer, self, fused="mixed" not in str(self.trainer.precision))
