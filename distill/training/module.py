"""The loop, once: two traces, a weighted sum of losses, one optimizer step.

::

    for every batch:
        learning rate, loss weights, temperatures          pure functions of the step, handed down
        teacher trace                                      no gradient, and only what a loss with a weight looks at
        student trace                                      the same; a peer changes places with it
        loss = Σ weight · Σ sum / Σ count                  over the accumulation window and all ranks
        backward, and an optimizer step at the window's end
        callbacks move masks, switch fake quantization     prune_schedules/callback.py, quant_aware/quantize.py
    after every epoch: the metrics of the student on validation
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
from distill.training.fsdp2 import Sharded, frozen, watch
from distill.training.optimizer import build_optimizer, frozen_parameters
from distill.training.step_values import StepValues, step_values
from losses.loss import Loss
from prune_schedules.schedule import Timeline
from students.processes import all_reduce_sum
from students.recording.batch import Batch
from students.recording.signals import Signals
from students.recording.trace import Recorder


class Distillation(LightningModule):
    """A student, the losses that train it, and the teacher they may look at.

    Args:
        student: the model to train, in float32.
        teacher: the model to imitate; none when only labels are learnt. A peer is trained as well.
        losses: the terms by name, set up already.
        task: gives the metrics.
        optimizer: the learning rate and its schedule.
        timeline: the length of the run.
        seed: of dropout; every batch has its own from (seed, batch, rank).
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
        """Whether losses that look at the teacher no longer count."""
        self.recorder = Recorder(student)
        self.metrics = task.training_metrics()
        self.values: StepValues | None = None
        """What is scheduled, at the step that is under way."""
        self.totals: dict[str, Tensor] = {}
        """What each loss has added up to in the window, without its weight."""
        self.window = torch.ones(len(losses))
        """The counts [L] of the accumulation window that is under way, of all ranks."""

    @property
    def curves(self) -> dict[str, float]:
        """What the curves tell of the step that is under way, or was the last."""
        return {"lr": self.values.lr} | {f"train/{name}_weight": v.weight for name, v in self.values.losses.items()}

    @property
    def shards(self) -> Sharded | None:
        """The strategy, if it is the one that cuts models into shards."""
        return self.trainer.strategy if isinstance(self.trainer.strategy, Sharded) else None

    def configure_model(self) -> None:
        """Cuts the models into shards if asked to: masks and quantizers are on by now, and no optimizer is made."""
        if self.shards:
            self.shards.shard([self.student, *frozen(self.teacher)], self.losses.values(), self.trainer)

    def on_fit_start(self) -> None:
        """Moves the teacher, which no hook of Lightning sees."""
        if self.teacher is not None:
            self.teacher.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Puts the student in train mode: ``from_pretrained`` returned it in eval mode, and ``fit`` leaves it so."""
        self.student.train()
        if self.peer is not None:
            self.peer.train()

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        """Set everything that is a function of the step."""
        batches = self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed((self.seed + 1009 * batches + 7919 * self.global_rank) % 2**63)
        self.values = self._values()
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.values.lr
        if index % self.trainer.accumulate_grad_batches == 0:
            self.window = all_reduce_sum(batch["window"])

    def _values(self) -> StepValues:
        return step_values(self.global_step, self.timeline, self.optimizer, self.losses, self.without_teacher)

    def probe(self, batch: Batch) -> Tensor:
        """Return the loss that training has now, of one batch and without dropout; nothing is remembered of it."""
        batch, totals, mode = self.transfer_batch_to_device(batch, self.device, 0), self.totals, self.student.training
        self.totals = {}
        self.student.eval()
        loss = self._loss(batch, all_reduce_sum(batch["counts"]), self._values())
        self.student.train(mode)
        self.totals = totals
        return loss * self.trainer.world_size

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss of one batch, scaled so that it is normalised once over the window and the ranks: Lightning
        takes the mean over both.
        """
        loss = self._loss(batch, self.window, self.values)
        return loss * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def _loss(self, batch: Batch, window: Tensor, values: StepValues) -> Tensor:
        """What this batch of this rank adds to the loss of all that ``window`` counts; nothing where it is idle."""
        active = {name: loss for name, loss in self.losses.items() if values.losses[name].weight != 0}
        needs = [loss.signals_at(values.losses[name]) for name, loss in active.items()]
        student_signals = reduce(or_, (student for student, _ in needs), Signals(logits=True))
        teacher_signals = reduce(or_, (teacher for _, teacher in needs), Signals())
        student = self.recorder.trace(batch, student_signals)
        if self.shards:
            watch(self.student, student)
        asked = teacher_signals or self.peer is not None
        teacher = self.teacher.trace(batch, teacher_signals) if asked else None
        for trace in (student, teacher):
            if trace is not None and trace.logits is not None:
                trace.logits = self.task.select_logits(trace.logits, batch)
        teacher_outputs = teacher.detached() if self.peer is not None else teacher
        counts = dict(zip(self.losses, window, strict=True))
        terms, is_active = [], float("idle" not in batch)
        with torch.autocast(self.device.type, enabled=False):
            for name, loss in active.items():
                count, at_step = counts[name].clamp(min=1).float(), values.losses[name]
                term = loss(student, teacher_outputs, batch, at_step)[0] / count * is_active
                self.totals[name] = self.totals.get(name, 0.0) + term.detach()
                terms.append(at_step.weight * term)
                if self.peer is not None and uses_logits_only(loss):  # the same lesson with the roles exchanged
                    exchanged = loss(teacher, student.detached(), batch, at_step)[0]
                    terms.append(at_step.weight * exchanged / count * is_active)
        # Only where no loss counts: zero gradients, unlike none, let the optimizer decay what nothing trains.
        return sum(terms) if terms else student.logits.sum() * 0.0

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes the gradient of what is frozen, before gradients are clipped: without one, AdamW leaves it alone."""
        for parameter in frozen_parameters(self.optimizer, self.student, self.global_step, self.timeline):
            parameter.grad = None

    def validation_step(self, batch: Batch, index: int) -> Tensor:
        """Adds a batch to the metrics; returns the outputs that they judge."""

        def predict(batch: Batch) -> Tensor:
            return self.recorder.trace(batch, Signals(logits=True)).logits

        logits = self.task.select_logits(predict(batch), batch)
        self.task.update_metrics(self.metrics, logits, batch)
        # Of a model in shards all processes must run each pass, and those may not write equally long.
        self.task.update_generation_metrics(
            self.metrics, predict if self.shards else CachedGenerator(self.student, predict), batch
        )
        return logits

    def on_validation_epoch_end(self) -> None:
        """Hands the metrics to the progress bar, the checkpoints and the curves."""
        if self.shards:
            self.shards.turns.finish()
        values = {f"val/{name}": value for name, value in self.metrics.compute().items()}
        self.metrics.reset()
        self.log_dict(values, logger=False, sync_dist=True)
        self.log(
            self.task.main_metric, values[f"val/{self.task.main_metric}"], prog_bar=True, logger=False, sync_dist=True
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over what is trained: the student, its peer and the projections of the losses."""
        return build_optimizer(self.optimizer, self, fused="mixed" not in str(self.trainer.precision))
