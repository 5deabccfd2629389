"""Schedules: numbers that change over the run, all pure functions of the optimizer step.

The ground floor: it imports nothing of ours but ``prune_schedules.timeline``, so that every package may use it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from prune_schedules.timeline import START, STOP, Timeline, TimePoint, window

SAMPLES = 10_000
"""The steps of a run at which a schedule without ``breakpoints`` is evaluated for checks."""


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A number that changes over the run; a plain number in YAML is ``Constant``."""

    @abstractmethod
    def value(self, step: int, timeline: Timeline) -> float:
        """Return the value at an optimizer step."""

    def time_points(self) -> dict[str, TimePoint]:
        """Return the time points at which the schedule starts or stops changing, by their YAML key."""
        return {}

    def span(self, timeline: Timeline) -> tuple[int, int]:
        """Return the steps at which the schedule starts and stops changing; 0 and 0 if it never changes."""
        steps = [point.step(timeline) for point in self.time_points().values()] or [0]
        return min(steps), max(steps)

    def breakpoints(self, timeline: Timeline) -> list[int]:
        """Return the steps at which the schedule may turn or jump: between two of them it is monotonic.

        A class that does not override this is sampled, at ``SAMPLES`` steps of the run.
        """
        return list(range(0, timeline.total_steps, self.sampling_interval(timeline)))

    def sampling_interval(self, timeline: Timeline) -> int:
        """Return the number of steps between two samples: 1 where the breakpoints are known."""
        is_known = type(self).breakpoints is not Schedule.breakpoints
        return 1 if is_known else max(1, timeline.total_steps // SAMPLES)

    def extremes(self, timeline: Timeline, start: int = 0, stop: int | None = None) -> list[int]:
        """Return steps of a window that include those of its lowest and its highest value.

        To check limits it is enough to evaluate the schedule at these steps.

        Args:
            timeline: of the run.
            start: the first step of the window.
            stop: the last step of the window; the end of the run if not given.
        """
        stop = max(start, timeline.total_steps - 1) if stop is None else stop
        turns = [step for step in self.breakpoints(timeline) if start < step <= stop]
        return sorted({start, stop, *turns, *(step - 1 for step in turns)})

    def bounds(self, timeline: Timeline, start: int = 0, stop: int | None = None) -> tuple[float, float]:
        """Return the lowest and the highest value in a window, as in ``extremes``."""
        values = [self.value(step, timeline) for step in self.extremes(timeline, start, stop)]
        return min(values), max(values)

    def equal_to(self, number: float, timeline: Timeline) -> list[range]:
        """Return the steps of the run at which the value equals a number, as ranges."""
        edges = sorted({0, timeline.total_steps, *self.breakpoints(timeline)})
        equal = []
        for piece in [range(start, stop) for start, stop in pairwise(edges) if stop <= timeline.total_steps]:
            sign = 1 if self.value(piece[-1], timeline) >= self.value(piece[0], timeline) else -1

            def rising(step: int, sign: int = sign) -> float:
                return sign * self.value(step, timeline)

            first, last = bisect_left(piece, sign * number, key=rising), bisect_right(piece, sign * number, key=rising)
            equal += [piece[first:last]] if first < last else []
        return equal

    def differs_from(self, number: float, timeline: Timeline) -> list[range]:
        """Return the steps of the run at which the value differs from a number, as ranges."""
        equal = [(steps.start, steps.stop) for steps in self.equal_to(number, timeline)]
        gaps = pairwise([0, *(edge for edges in equal for edge in edges), timeline.total_steps])
        return [range(start, stop) for start, stop in list(gaps)[::2] if start < stop]


@dataclass(frozen=True)
class Constant(Schedule):
    """The same number throughout.

    Args:
        to: the number.
    """

    shorthand: ClassVar[str] = "to"

    to: float

    def value(self, step: int, timeline: Timeline) -> float:
        """Return ``to``."""
        return self.to

    def breakpoints(self, timeline: Timeline) -> list[int]:
        """Return no steps."""
        return []


@dataclass(frozen=True, kw_only=True)
class Ramp(Schedule):
    """From ``initial`` to ``to`` between ``start`` and ``stop``; constant before and after.

    Args:
        to: the value at the end of the window and after.
        initial: the value before the window.
        start: the time point at which it starts to change.
        stop: the time point at which it stops changing.
    """

    to: float
    initial: float = 0.0
    start: TimePoint = START
    stop: TimePoint = STOP

    @abstractmethod
    def progress(self, x: float) -> float:
        """Return the fraction of the change that is done at fraction ``x`` of the window.

        It is 0 at 0 and 1 at 1, and monotonic.
        """

    def value(self, step: int, timeline: Timeline) -> float:
        """Return ``initial + (to - initial) * progress(x)``, x the fraction of the window that has passed."""
        start, stop = window(self.start, self.stop, timeline)
        if step >= stop:
            return self.to
        x = (step - start) / (stop - start) if step > start else 0.0
        return self.initial + (self.to - self.initial) * self.progress(x)

    def time_points(self) -> dict[str, TimePoint]:
        """Return the two ends of the window."""
        return {"start": self.start, "stop": self.stop}

    def breakpoints(self, timeline: Timeline) -> list[int]:
        """Return the two ends of the window; ``progress`` is monotonic between them."""
        return list(window(self.start, self.stop, timeline))


class Linear(Ramp):
    """A straight ramp."""

    def progress(self, x: float) -> float:
        """Return ``x``."""
        return x


class Cosine(Ramp):
    """Half a cosine: slow, fast, slow (Loshchilov and Hutter 2017, arXiv 1608.03983)."""

    def progress(self, x: float) -> float:
        """Return ``(1 - cos(pi x)) / 2``."""
        return (1 - math.cos(math.pi * x)) / 2


class Cubic(Ramp):
    """Fast at first and flat at the end, for sparsity (Zhu and Gupta 2017, arXiv 1710.01878).

    ``s(t) = s_f + (s_0 - s_f) (1 - x)^3``
    """

    def progress(self, x: float) -> float:
        """Return ``1 - (1 - x)^3``."""
        return 1 - (1 - x) ** 3


@dataclass(frozen=True, kw_only=True)
class Steps(Schedule):
    """A step function: ``initial``, then the value of the latest time point, as in ``at: {30%: 0.5, 60%: 0.8}``.

    Args:
        at: the value from each time point on.
        initial: the value before the first.
    """

    at: dict[str, float]
    initial: float = 0.0

    def __post_init__(self) -> None:
        if not self.at:
            raise ValueError("at: needs at least one time point")
        for text in self.at:
            TimePoint(text)

    def value(self, step: int, timeline: Timeline) -> float:
        """Return the value of the latest time point at or before ``step``."""
        by_step = [(TimePoint(text).step(timeline), number) for text, number in self.at.items()]
        return max(((start, number) for start, number in by_step if start <= step), default=(0, self.initial))[1]

    def time_points(self) -> dict[str, TimePoint]:
        """Return the time points of ``at``."""
        return {f"at.{text}": TimePoint(text) for text in self.at}

    def breakpoints(self, timeline: Timeline) -> list[int]:
        """Return the steps of the time points."""
        return sorted(point.step(timeline) for point in self.time_points().values())


@dataclass(frozen=True, kw_only=True)
class Cyclic(Schedule):
    """Up and down between ``initial`` and ``to`` in ``cycles`` equal triangles (Smith 2017, arXiv 1506.01186).

    Args:
        to: the value at the peaks.
        initial: the value between them, and outside the window.
        cycles: number of triangles.
        start: the time point at which the first begins.
        stop: the time point at which the last ends.
    """

    to: float
    initial: float = 0.0
    cycles: int = 1
    start: TimePoint = field(default=START)
    stop: TimePoint = field(default=STOP)

    def __post_init__(self) -> None:
        if self.cycles < 1:
            raise ValueError(f"cycles: must be at least 1, not {self.cycles}")

    def value(self, step: int, timeline: Timeline) -> float:
        """Return ``initial + (to - initial) (1 - |2 frac(cycles x) - 1|)``; ``initial`` outside the window."""
        start, stop = window(self.start, self.stop, timeline)
        if not start < step < stop:
            return self.initial
        phase = self.cycles * (step - start) / (stop - start) % 1
        return self.initial + (self.to - self.initial) * (1 - abs(2 * phase - 1))

    def time_points(self) -> dict[str, TimePoint]:
        """Return the two ends of the window."""
        return {"start": self.start, "stop": self.stop}

    def breakpoints(self, timeline: Timeline) -> list[int]:
        """Return the first step of each half of a triangle, from which it rises or falls; at most all steps."""
        start, stop = window(self.start, self.stop, timeline)
        length, halves = stop - start, 2 * self.cycles
        if halves >= length:
            return list(range(start, stop + 1))
        return [start - (-half * length // halves) for half in range(halves + 1)]
