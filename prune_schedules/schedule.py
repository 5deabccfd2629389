"""The one timeline: moments, windows and schedules, all pure functions of the optimizer step.

The ground floor: this module imports nothing of ours, so that every package may use it.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

_UNITS = {"%": "share", "epoch": "epochs", "epochs": "epochs", "step": "steps", "steps": "steps"}


@dataclass(frozen=True)
class Timeline:
    """How long a run is: ``total_steps`` optimizer steps, ``epoch_steps`` of them in one pass over the data."""

    total_steps: int
    epoch_steps: int

    def sample(self) -> range:
        """The steps at which a run is looked at before it begins: all, or of a very long run one in so many."""
        return range(0, self.total_steps, max(1, self.total_steps // 10_000))


@dataclass(frozen=True)
class Moment:
    """A point of the run, written ``10%``, ``2 epochs`` or ``500 steps``.

    Args:
        text: as it is written.

    Raises:
        ValueError: if the text is none of these, or lies before the start or after 100 %.
    """

    plain: ClassVar[str] = "text"

    text: str

    def __post_init__(self):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%|epochs?|steps?)\s*", str(self.text))
        if not match:
            raise ValueError(f"{self.text!r} is not a moment of the run; write '10%', '2 epochs' or '500 steps'")
        if self.unit == "share" and self.amount > 100:
            raise ValueError(f"{self.text!r} lies after the end of the run")

    def __str__(self) -> str:
        return self.text

    @property
    def amount(self) -> float:
        """The number in front of the unit."""
        return float(re.match(r"\s*([\d.]+)", self.text)[1])

    @property
    def unit(self) -> str:
        """One of ``share``, ``epochs``, ``steps``."""
        return _UNITS[re.search(r"[%a-z]+", self.text)[0]]

    def step(self, timeline: Timeline) -> int:
        """The optimizer step (0 to ``total_steps``) at which the moment comes.

        Raises:
            ValueError: if it comes after the last step.
        """
        scale = {"share": timeline.total_steps / 100, "epochs": timeline.epoch_steps, "steps": 1}[self.unit]
        step = round(self.amount * scale)
        if step > timeline.total_steps:
            raise ValueError(f"{self.text!r} is step {step}, but the run ends at step {timeline.total_steps}")
        return step


START, STOP = Moment("0%"), Moment("100%")


def window(start: Moment, stop: Moment, timeline: Timeline) -> tuple[int, int]:
    """The steps of two moments.

    Raises:
        ValueError: if the second comes before the first.
    """
    first, last = start.step(timeline), stop.step(timeline)
    if last < first:
        raise ValueError(f"stop: the window ends at step {last}, before it starts at step {first}")
    return first, last


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A number that changes over the run; a plain number in YAML is ``Constant``."""

    @abstractmethod
    def value(self, step: int, timeline: Timeline) -> float:
        """The value at optimizer step ``step``."""

    def moments(self) -> dict[str, Moment]:
        """The moments at which the schedule begins or ceases to change, by the key that holds them."""
        return {}

    def span(self, timeline: Timeline) -> tuple[int, int]:
        """The steps at which it begins and ceases to change: 0 and 0, if it never does."""
        steps = [moment.step(timeline) for moment in self.moments().values()] or [0]
        return min(steps), max(steps)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same number throughout.

    Args:
        to: the number.
    """

    plain: ClassVar[str] = "to"

    to: float

    def value(self, step: int, timeline: Timeline) -> float:
        """``to``."""
        return self.to


@dataclass(frozen=True, kw_only=True)
class Ramp(Schedule):
    """From ``initial`` to ``to`` between ``start`` and ``stop``; constant before and after.

    Args:
        to: the value at the end of the window and after.
        initial: the value before the window.
        start: the moment at which it begins to change.
        stop: the moment at which it has changed.
    """

    to: float
    initial: float = 0.0
    start: Moment = START
    stop: Moment = STOP

    @abstractmethod
    def shape(self, x: float) -> float:
        """The share of the way that is done at share ``x`` of the window; 0 at 0 and 1 at 1."""

    def value(self, step: int, timeline: Timeline) -> float:
        """``initial + (to - initial) * shape(x)``, x the share of the window that has passed."""
        start, stop = window(self.start, self.stop, timeline)
        if step >= stop:
            return self.to
        x = (step - start) / (stop - start) if step > start else 0.0
        return self.initial + (self.to - self.initial) * self.shape(x)

    def moments(self) -> dict[str, Moment]:
        """The two ends of the window."""
        return {"start": self.start, "stop": self.stop}


class Linear(Ramp):
    """A straight ramp."""

    def shape(self, x: float) -> float:
        """``x``."""
        return x


class Cosine(Ramp):
    """Half a cosine: slow, fast, slow (Loshchilov and Hutter 2017, arXiv 1608.03983)."""

    def shape(self, x: float) -> float:
        """``(1 - cos(pi x)) / 2``."""
        return (1 - math.cos(math.pi * x)) / 2


class Cubic(Ramp):
    """Fast at first and flat at the end, for sparsity (Zhu and Gupta 2017, arXiv 1710.01878).

    ``s(t) = s_f + (s_0 - s_f) (1 - x)^3``
    """

    def shape(self, x: float) -> float:
        """``1 - (1 - x)^3``."""
        return 1 - (1 - x) ** 3


@dataclass(frozen=True, kw_only=True)
class Steps(Schedule):
    """A staircase: ``initial``, then the value of the last moment that has come, as in ``at: {30%: 0.5, 60%: 0.8}``.

    Args:
        at: the value from each moment on.
        initial: the value before the first.
    """

    at: dict[str, float]
    initial: float = 0.0

    def __post_init__(self):
        if not self.at:
            raise ValueError("at: needs at least one moment")
        for text in self.at:
            Moment(text)

    def value(self, step: int, timeline: Timeline) -> float:
        """The value of the last moment at or before ``step``."""
        passed = [(Moment(text).step(timeline), number) for text, number in self.at.items()]
        return max(((when, number) for when, number in passed if when <= step), default=(0, self.initial))[1]

    def moments(self) -> dict[str, Moment]:
        """The stairs."""
        return {f"at.{text}": Moment(text) for text in self.at}


@dataclass(frozen=True, kw_only=True)
class Cyclic(Schedule):
    """Up and down between ``initial`` and ``to`` in ``cycles`` equal triangles (Smith 2017, arXiv 1506.01186).

    Args:
        to: the value at the peaks.
        initial: the value between them, and outside the window.
        cycles: number of triangles.
        start: the moment at which the first begins.
        stop: the moment at which the last ends.
    """

    to: float
    initial: float = 0.0
    cycles: int = 1
    start: Moment = field(default=START)
    stop: Moment = field(default=STOP)

    def __post_init__(self):
        if self.cycles < 1:
            raise ValueError(f"cycles: must be at least 1, not {self.cycles}")

    def value(self, step: int, timeline: Timeline) -> float:
        """``initial + (to - initial) (1 - |2 frac(cycles x) - 1|)``; ``initial`` outside the window."""
        start, stop = window(self.start, self.stop, timeline)
        if not start < step < stop:
            return self.initial
        phase = self.cycles * (step - start) / (stop - start) % 1
        return self.initial + (self.to - self.initial) * (1 - abs(2 * phase - 1))

    def moments(self) -> dict[str, Moment]:
        """The two ends of the window."""
        return {"start": self.start, "stop": self.stop}
