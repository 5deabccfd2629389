"""Whether the components of a run go together, by the rules on pairs of their flags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from distill.config.config import Config
from distill.experiment.components import Component
from distill.experiment.rules import RULES
from prune_schedules.schedule import Timeline


def conflicts(components: Sequence[Component], timeline: Timeline | None = None) -> Iterator[tuple[str, str]]:
    """Yield key and reason of each conflict, in the order of the rules.

    Args:
        components: the components of the run that are known so far.
        timeline: the length of the run; None skips rules that hold at some steps only.
    """
    for rule in RULES:
        others = [component for component in components if component.has(rule.other_flag)]
        for component in (component for component in components if component.has(rule.flag)):
            if rule.is_required and not others:
                yield component.at(rule.reason.format(it=component))
            for other in others if not rule.is_required else ():
                if rule.unless(component.settings, other.settings):
                    continue
                step = _first_step(component, other, timeline) if rule.at_same_step else 0
                if step is not None:
                    yield component.at(rule.reason.format(it=component, other=other, step=step))


def check_compatibility(config: Config, components: Sequence[Component], timeline: Timeline | None = None) -> None:
    """Raise ConfigError at the key of the first component that conflicts with another."""
    for key, reason in conflicts(components, timeline):
        raise config.error(key, reason)


def _first_step(component: Component, other: Component, timeline: Timeline | None) -> int | None:
    """Return the first step at which both are active; None if there is none."""
    pairs = product(component.active_steps(timeline), other.active_steps(timeline)) if timeline else ()
    return min((max(a.start, b.start) for a, b in pairs if max(a.start, b.start) < min(a.stop, b.stop)), default=None)
