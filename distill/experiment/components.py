"""The components of a run, with the flags that they declare.

A flag is a class variable or property of a component's settings; settings that do not declare it do not have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from distill.config.schema import yaml_name
from distill.experiment.experiment import Experiment
from prune_schedules.schedule import Timeline


@dataclass(frozen=True)
class Component:
    """A component of a run, to which rules apply.

    Args:
        key: its dotted key in the config.
        settings: its settings, whose attributes are the flags.
        name: its name in messages.
        flags: further flags, of a plain value that has no class to declare them.
        active: a function that returns the steps at which it is active; None for its ``active_steps``.
    """

    key: str
    settings: Any = None
    name: str = ""
    flags: frozenset[str] = frozenset()
    active: Callable[[Timeline], list[range]] | None = None

    def active_steps(self, timeline: Timeline) -> list[range]:
        """Return the ranges of steps at which it is active."""
        return (self.active or self.settings.active_steps)(timeline)

    @property
    def kind(self) -> str:
        """Return the name of its class in YAML."""
        return yaml_name(type(self.settings))

    def at(self, reason: str) -> tuple[str, str]:
        """Return key and reason; a field name at the beginning of the reason becomes part of the key."""
        field, _, rest = reason.partition(": ")
        names = {f.name for f in fields(self.settings)} if is_dataclass(self.settings) else set()
        return (f"{self.key}.{field}", rest) if field in names else (self.key, reason)

    def has(self, flag: str) -> bool:
        """Return whether a flag applies."""
        return flag in self.flags or bool(getattr(self.settings, flag, False))


def flags_of(**flags: bool) -> frozenset[str]:
    """Return the names of the flags that are true."""
    return frozenset(flag for flag, holds in flags.items() if holds)


def components(experiment: Experiment) -> list[Component]:
    """Return the components of a run."""
    return [*_settings(experiment), *_teachers(experiment), *_trained(experiment)]


def _settings(experiment: Experiment) -> list[Component]:
    task, losses, replace = experiment.task, experiment.losses.values(), experiment.replace
    tasks = task.tasks if task.is_multi_task else {}
    parts = [
        Component("task", task, ", ".join(tasks), flags_of(is_single=not tasks)),
        *(Component(f"task.tasks.{name}", part, name) for name, part in tasks.items()),
        Component("losses", flags=flags_of(all_need_teacher=all(loss.teacher_signals for loss in losses))),
        Component("save_dtype", flags=flags_of(saves_half=experiment.save_dtype != "float32")),
        Component("vocabulary", flags=flags_of(drops_tokens=experiment.vocabulary is not None)),
    ]
    if replace:
        flags = flags_of(runs_teacher_blocks=True)
        parts.append(Component("replace", flags=flags, active=lambda line: replace.differs_from(1.0, line)))
    return parts


def _teachers(experiment: Experiment) -> list[Component]:
    teacher = experiment.teacher
    if teacher is None:
        return []
    if not teacher.is_ensemble:
        return [Component("teacher", teacher, flags=flags_of(is_single_teacher=True))]
    members = [Component(f"teacher.members.{name}", member, name) for name, member in teacher.members.items()]
    return [Component("teacher", teacher, ", ".join(teacher.members)), *members]


def _trained(experiment: Experiment) -> list[Component]:
    """Return the components of losses, pruning, quantization and export."""
    quantize, export = experiment.quantize, bool(experiment.export)
    parts = [Component(f"losses.{name}", loss, name) for name, loss in experiment.losses.items()]
    parts += [Component(experiment.prune_key(name), pruner, name) for name, pruner in experiment.pruners().items()]
    if quantize:
        quantizers = [q for q in (*quantize.quantizers, *quantize.overrides.values()) if q and q.is_vector_quantizer]
        parts.append(Component("quantize", quantize, yaml_name(type(quantizers[0])) if quantizers else ""))
    return [*parts, Component("export", flags=flags_of(writes_onnx=export, writes_float32=export))]
