"""Check the teachers before the first step: finite outputs, and caches that will be read."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import or_

from torch import Tensor

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from distill.teachers.cache import MAX_OUTPUTS, CachedTeacher
from distill.teachers.ensemble import member_signals
from distill.teachers.teacher import FrozenTeacher
from distill.training.timeline import step_ranges
from prune_schedules.schedule import Timeline
from students.recording.signals import Signals


def check_cache(config: Config[Experiment], teachers: dict[str, FrozenTeacher], timeline: Timeline) -> list[str]:
    """Return a warning for each teacher that runs at some steps although it has a cache.

    Raises:
        ConfigError: if a cache would never be read, since a loss needs outputs that are not cached at every step.
    """
    warnings = []
    for name, teacher in config.value.teachers().items():
        if not teacher.cache:
            continue
        vocabulary = teachers[name].model.config.vocab_size
        caches_logits = not (config.value.task.predicts_tokens and vocabulary > MAX_OUTPUTS)
        running_steps, teacher_steps = 0, 0
        reasons: dict[str, None] = {}
        for steps in step_ranges(config.value.losses, timeline):
            signals = signals_of(config.value, name, steps[0], timeline)
            uncached = ["attention"] * bool(signals.attention) + ["routers"] * bool(signals.routing)
            uncached += [f"logits over a vocabulary of {vocabulary:,}"] * (signals.logits and not caches_logits)
            reasons |= dict.fromkeys(uncached)
            running_steps += bool(uncached) * len(steps)
            teacher_steps += bool(signals) * len(steps)
        outputs = " and ".join(reasons)
        if running_steps and running_steps == teacher_steps:
            message = f"cache: would never be read: the losses look at {outputs} at every step, which are not kept"
            raise config.error(config.value.teacher_key(name), f"{message}; write cache: false")
        if running_steps:
            steps = f"at {running_steps} of {teacher_steps} steps the losses look at {outputs}, which are not kept"
            warnings.append(f"{config.value.teacher_key(name)}.cache: {steps}: there the teacher runs")
    return warnings


def check_outputs(
    config: Config[Experiment], teachers: dict[str, FrozenTeacher | CachedTeacher], batch: dict[str, Tensor]
) -> None:
    """Run every teacher on a small batch, and let caches reserve their space on disk.

    Raises:
        ConfigError: if an output is not finite, or there is no space for a cache.
    """
    for name, teacher in teachers.items():
        frozen = teacher.teacher if isinstance(teacher, CachedTeacher) else teacher
        with config.error_context(config.value.teacher_key(name)):
            signals = signals_of(config.value, name)
            trace = frozen.record(batch, Signals(logits=True, hidden=signals.hidden))
            logits = trace.logits
            if logits.isnan().any() or logits.isposinf().any():
                model = config.value.teachers()[name].model
                raise ValueError(f"model: {model} gives NaN or infinity for the first training row")
            if isinstance(teacher, CachedTeacher):
                try:
                    teacher.allocate(batch, trace if signals.logits else replace(trace, logits=None))
                except OSError as error:
                    reason = f"{error.strerror} (in {teacher.folder.parent})"
                    raise ValueError(f"cache: there is no space for the outputs of all rows: {reason}") from error


def signals_of(experiment: Experiment, name: str, step: int | None = None, timeline: Timeline | None = None) -> Signals:
    """Return the signals of a teacher that the losses need, at a step or, without one, at any step."""
    needs = []
    for loss in experiment.losses.values():
        if step is None:
            needs.append(loss.teacher_signals)
        elif (values := loss.at(step, timeline)).weight != 0:
            needs.append(loss.signals_at(values)[1])
    signals = reduce(or_, needs, Signals())
    if experiment.teacher and experiment.teacher.is_ensemble_for_all_tasks:
        return member_signals(signals, name)
    return signals
