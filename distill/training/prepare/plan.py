"""A run before its first step: what it is made of, how long it is, what happens when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Trainer

from distill.config.config import Config
from distill.data.batches import LengthGroupedBatchSampler
from distill.experiment.compatibility import judge
from distill.experiment.components import components
from distill.experiment.experiment import Experiment
from distill.run_dir.disk import check_writable
from distill.training.parts import Parts
from distill.training.prepare.assemble import assemble
from distill.training.prepare.checks.dry_trace import trace_once
from distill.training.prepare.checks.student_check import check_student
from distill.training.prepare.checks.teacher_check import check_cache
from distill.training.prepare.preflight import Preflight, preflight
from distill.training.timeline import entries, table
from distill.training.trainer import make_trainer, time_of
from prune_schedules.schedule import Timeline


@dataclass
class Plan:
    """A run that could begin."""

    parts: Parts
    trainer: Trainer
    order: LengthGroupedBatchSampler
    timeline: Timeline
    entries: list[dict]
    preflight: Preflight

    def text(self, name: str) -> str:
        """What the terminal shows before the first step of the run ``name``: what was read, and what happens when."""
        lines = "".join(f"\n  {line}" for line in self.preflight.lines())
        warnings = "".join(f"\nwarning: {line}" for line in self.parts.warnings)
        return f"{name}: what it reads{lines}\n{name}: {table(self.entries, self.timeline)}{warnings}"


def plan(config: Config[Experiment], folder: Path, begins: bool = True, resumes: bool = False) -> Plan:
    """Loads and builds all that a run needs, once its folder is known to be writable; leaves no file behind.

    Args:
        config: of the run.
        folder: of the run.
        begins: whether the first step comes next.
        resumes: whether a later step does: then teachers are scored as well, and none is refused.

    Raises:
        ConfigError: at the first thing that does not fit.
    """
    task = config.value.task
    _can_be_written(config, folder)
    parts = assemble(config, begins)
    # The student's weights and the two moments that AdamW keeps of each.
    _can_be_written(config, folder, 12 * sum(weight.numel() for weight in parts.student.parameters()))
    trace_once(config, parts)
    trainer = make_trainer(config, folder)
    if trainer.strategy.root_device.type == "cpu":
        for name, teacher in config.value.teachers().items():
            model = parts.teachers[name].model
            if teacher.dtype is None and model.dtype != torch.float32:
                was = str(model.dtype).removeprefix("torch.")
                model.float()  # most CPUs compute half precision in software, 8 times slower
                parts.notes.append(f"{name}: stored in {was}, run in float32, as on every CPU; dtype: {was} keeps it")
    train, world, rank = parts.rows["train"], trainer.world_size, trainer.global_rank
    with config.error_context("task"):
        order = LengthGroupedBatchSampler(
            list(train["length"]), task.batch_size, config.value.seed, world, rank, groups=task.row_groups(train)
        )
    timeline = time_of(config, trainer, len(order))
    found = entries(config, timeline)
    judge(config, components(config.value), timeline)
    parts.warnings += check_cache(config, parts.teachers, timeline)
    if begins and trainer.is_global_zero:  # the others would save nothing
        parts.warnings += check_student(config, parts, timeline)
    return Plan(parts, trainer, order, timeline, found, preflight(config, parts, trainer, begins, resumes))


def _can_be_written(config: Config[Experiment], folder: Path, wanted: int = 0) -> None:
    try:
        check_writable(folder, wanted)
    except OSError as error:
        raise config.error("output", f"{folder}: {error.strerror}") from error
