"""The timeline of a run: its length, time points and windows, in optimizer steps.

The ground floor: it imports nothing of ours, so that every package may use it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%|epochs?|steps?)\s*")
_UNITS = {"%": "percent", "epoch": "epochs", "epochs": "epochs", "step": "steps", "steps": "steps"}


@dataclass(frozen=True)
class Timeline:
    """The length of a run: ``total_steps`` optimizer steps, ``epoch_steps`` of them in one pass over the data."""

    total_steps: int
    epoch_steps: int


@dataclass(frozen=True)
class TimePoint:
    """A point of the run, written ``10%``, ``2 epochs`` or ``500 steps``.

    Args:
        text: as it is written.

    Raises:
        ValueError: if the text is none of these, or lies before the start or after 100 %.
    """

    shorthand: ClassVar[str] = "text"

    text: str

    def __post_init__(self) -> None:
        if self.unit == "percent" and self.amount > 100:
            raise ValueError(f"{self.text!r} lies after the end of the run")

    def __str__(self) -> str:
        return self.text

    @property
    def amount(self) -> float:
        """Return the number before the unit."""
        return float(self._parts()[0])

    @property
    def unit(self) -> str:
        """Return ``percent``, ``epochs`` or ``steps``."""
        return _UNITS[self._parts()[1]]

    def _parts(self) -> tuple[str, str]:
        """Return the number and the unit as they are written."""
        match = _PATTERN.fullmatch(str(self.text))
        if not match:
            raise ValueError(f"{self.text!r} is not a time point; write '10%', '2 epochs' or '500 steps'")
        return match[1], match[2]

    def step(self, timeline: Timeline) -> int:
        """Return the optimizer step of the time point, 0 to ``total_steps``.

        Raises:
            ValueError: if it is after the last step.
        """
        scale = {"percent": timeline.total_steps / 100, "epochs": timeline.epoch_steps, "steps": 1}[self.unit]
        step = round(self.amount * scale)
        if step > timeline.total_steps:
            raise ValueError(f"{self.text!r} is step {step}, but the run ends at step {timeline.total_steps}")
        return step


START, STOP = TimePoint("0%"), TimePoint("100%")


def window(start: TimePoint, stop: TimePoint, timeline: Timeline) -> tuple[int, int]:
    """Return the steps of two time points.

    Raises:
        ValueError: if the second comes before the first.
    """
    first, last = start.step(timeline), stop.step(timeline)
    if last < first:
        raise ValueError(f"stop: the window ends at step {last}, before it starts at step {first}")
    return first, last
