"""Plan a run before its first step: its parts, trainer, order of rows and timeline, all checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Trainer

from distill.config.config import Config
from distill.data.batches import LengthGroupedBatchSampler
from distill.experiment.compatibility import check_compatibility
from distill.experiment.components import Component, components, flags_of
from distill.experiment.experiment import Experiment
from distill.run_dir.disk import check_writable
from distill.training.callbacks.trackers.loggers import check_trackers
from distill.training.parts import Parts
from distill.training.prepare.assemble import assemble
from distill.training.prepare.checks.dry_trace import check_traces
from distill.training.prepare.checks.student_check import check_student
from distill.training.prepare.checks.teacher_check import check_cache
from distill.training.prepare.preflight import Preflight, preflight
from distill.training.stop import is_rank_zero
from distill.training.timeline import timeline_entries, timeline_table
from distill.training.trainer import make_timeline, make_trainer
from prune_schedules.schedule import Timeline


@dataclass
class Plan:
    """An assembled and checked run."""

    parts: Parts
    trainer: Trainer
    order: LengthGroupedBatchSampler
    timeline: Timeline
    entries: list[dict]
    preflight: Preflight

    def text(self, name: str) -> str:
        """Return what the terminal shows before the first step of the run ``name``: the preflight and the timeline."""
        lines = "".join(f"\n  {line}" for line in self.preflight.lines())
        warnings = "".join(f"\nwarning: {line}" for line in self.parts.warnings)
        return f"{name}: what it reads{lines}\n{name}: {timeline_table(self.entries, self.timeline)}{warnings}"

    def to_json(self) -> dict:
        """Return the same as plain data."""
        return {
            "steps": self.timeline.total_steps,
            "epoch_steps": self.timeline.epoch_steps,
            "timeline": self.entries,
            "preflight": self.preflight.to_json(),
            "warnings": self.parts.warnings,
        }


def plan(config: Config[Experiment], folder: Path, begins: bool = True, resumes: bool = False) -> Plan:
    """Load, build and check all that a run needs, after checking that its folder is writable; write nothing.

    Args:
        config: the config of the run.
        folder: the run folder.
        begins: whether the run starts at step 0.
        resumes: whether the run is resumed: then teachers are scored too, but none is refused.

    Raises:
        ConfigError: at the first thing that does not fit.
    """
    task = config.value.task
    _check_writable(config, folder)
    if is_rank_zero():
        check_trackers(config)
    parts = assemble(config, begins)
    # A checkpoint: weights and the two moments of AdamW, in float32.
    _check_writable(config, folder, 12 * sum(weight.numel() for weight in parts.student.parameters()))
    check_traces(config, parts)
    trainer = make_trainer(config, folder)
    if trainer.strategy.root_device.type == "cpu":
        for name, teacher in config.value.teachers().items():
            model = parts.teachers[name].model
            if teacher.dtype is None and model.dtype != torch.float32:
                dtype = str(model.dtype).removeprefix("torch.")
                model.float()  # most CPUs compute half precision in software, 8 times slower
                parts.notes.append(f"{name}: stored in {dtype}, run in float32 on a CPU; dtype: {dtype} keeps it")
    train, world, rank = parts.rows["train"], trainer.world_size, trainer.global_rank
    with config.error_context("task"):
        order = LengthGroupedBatchSampler(
            list(train["length"]), task.batch_size, config.value.seed, world, rank, groups=task.row_groups(train)
        )
    timeline = make_timeline(config, trainer, len(order))
    entries = timeline_entries(config, timeline)
    own = [
        Component(config.value.teacher_key(name), teacher.own_tokens, name, flags_of(reads_own_tokens=True))
        for name, teacher in parts.teachers.items()
        if teacher.own_tokens
    ]
    check_compatibility(config, [*components(config.value), *own], timeline)
    parts.warnings += check_cache(config, parts.teachers, timeline)
    if begins and trainer.is_global_zero:  # other ranks save nothing
        parts.warnings += check_student(config, parts, timeline)
    return Plan(parts, trainer, order, timeline, entries, preflight(config, parts, trainer, begins, resumes))


def _check_writable(config: Config[Experiment], folder: Path, size: int = 0) -> None:
    """Raise ConfigError if a folder cannot be written, or not ``size`` bytes."""
    try:
        check_writable(folder, size)
    except OSError as error:
        raise config.error("output", f"{folder}: {error.strerror}") from error
