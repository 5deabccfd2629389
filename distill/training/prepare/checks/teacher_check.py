"""The teachers before the first step: whether they give numbers, and whether a cache of what they give is of use."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import or_

from torch import Tensor

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from distill.teachers.cache import MAX_OUTPUTS, CachedTeacher
from distill.teachers.ensemble import Teachers, member_sites
from distill.teachers.teacher import FrozenTeacher
from distill.training.timeline import stretches
from prune_schedules.schedule import Timeline
from students.recording.signals import Signals


def check_cache(config: Config[Experiment], teachers: dict[str, FrozenTeacher], timeline: Timeline) -> list[str]:
    """Return what a reader should know of teachers that run although they have a cache.

    Raises:
        ConfigError: if a cache would never be read, because a loss looks at what is not kept at every step.
    """
    warnings = []
    for name, teacher in config.value.teachers().items():
        if not teacher.cache:
            continue
        vocabulary = teachers[name].model.config.vocab_size
        kept = not (config.value.task.predicts_tokens and vocabulary > MAX_OUTPUTS)
        running, asked = 0, 0
        reasons: dict[str, None] = {}
        for steps in stretches(config.value.losses, timeline):
            signals = signals_of(config.value, name, steps[0], timeline)
            why = ["attention"] * bool(signals.attention)
            why += [f"logits over a vocabulary of {vocabulary:,}"] * (signals.logits and not kept)
            reasons |= dict.fromkeys(why)
            running, asked = running + bool(why) * len(steps), asked + bool(signals) * len(steps)
        what = " and ".join(reasons)
        if running and running == asked:
            why = f"cache: would never be read: the losses look at {what} at every step, which are not kept"
            raise config.error(key_of(config.value, name), f"{why}; write cache: false")
        if running:
            steps = f"at {running} of {asked} steps the losses look at {what}, which are not kept"
            warnings.append(f"{key_of(config.value, name)}.cache: {steps}: there the teacher runs")
    return warnings


def check_outputs(
    config: Config[Experiment], teachers: dict[str, FrozenTeacher | CachedTeacher], batch: dict[str, Tensor]
) -> None:
    """Run every teacher on a row or a few, and let caches reserve their space on disk.

    Raises:
        ConfigError: if an output is not finite, or there is no room for a cache.
    """
    for name, teacher in teachers.items():
        frozen = teacher.teacher if isinstance(teacher, CachedTeacher) else teacher
        with config.error_context(key_of(config.value, name)):
            asked = signals_of(config.value, name)
            trace = frozen.trace(batch, Signals(logits=True, hidden=asked.hidden))
            logits = trace.logits
            if logits.isnan().any() or logits.isposinf().any():
                model = config.value.teachers()[name].model
                raise ValueError(f"model: {model} gives NaN or infinity for the first training row")
            if isinstance(teacher, CachedTeacher):
                try:
                    teacher.allocate(batch, trace if asked.logits else replace(trace, logits=None))
                except OSError as error:
                    why = f"{error.strerror} (in {teacher.folder.parent})"
                    raise ValueError(f"cache: there is no room for what is to be kept of all rows: {why}") from error


def signals_of(experiment: Experiment, name: str, step: int | None = None, timeline: Timeline | None = None) -> Signals:
    """What the losses ask of a teacher, at a step or ever."""
    needs = []
    for loss in experiment.losses.values():
        if step is None:
            needs.append(loss.teacher_signals)
        elif (values := loss.at(step, timeline)).weight != 0:
            needs.append(loss.signals_at(values)[1])
    signals = reduce(or_, needs, Signals())
    if isinstance(experiment.teacher, Teachers) and experiment.teacher.combine != "task":
        return Signals(signals.logits, member_sites(signals.hidden, name), member_sites(signals.attention, name))
    return signals


def key_of(experiment: Experiment, name: str) -> str:
    """Where a teacher stands in the config."""
    return f"teacher.members.{name}" if isinstance(experiment.teacher, Teachers) else "teacher"
