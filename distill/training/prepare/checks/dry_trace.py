"""Trace each model once before the first step, recorded as in training."""

from __future__ import annotations

from functools import reduce
from operator import or_

import torch

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from distill.training.parts import Parts
from distill.training.prepare.first_batches import first_batches
from students.recording.signals import Signals
from students.recording.trace import Recorder


def check_traces(config: Config[Experiment], parts: Parts) -> None:
    """Trace two rows for what the losses compare, so that a model that cannot be recorded is refused at its key.

    Raises:
        ConfigError: at ``student`` or ``teacher``.
    """
    experiment = config.value
    start = getattr(parts.student.config, "decoder_start_token_id", None)
    rows = parts.rows["train"].select(range(min(2, len(parts.rows["train"]))))
    batch = next(iter(first_batches(experiment.task, rows, parts.tokenizer, start, experiment.seed)))
    losses = experiment.losses.values()
    needs = reduce(or_, (loss.student_signals for loss in losses), Signals(logits=True))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        mode = parts.student.training
        with config.error_context("student"):
            recorder = Recorder(parts.student.eval())
            try:
                recorder.trace(batch, needs)
            finally:
                recorder.close()
                parts.student.train(mode)
        with config.error_context("teacher"):
            if teacher := experiment.build_teacher(parts.teachers):
                teacher.trace(batch, reduce(or_, (loss.teacher_signals for loss in losses), Signals(logits=True)))
