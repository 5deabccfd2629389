"""The time that a run has taken, over all processes that worked on it in turn."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """The start of a run and its seconds; time between its processes does not count.

    Args:
        started: when the first process began, in seconds since the epoch.
        earlier_seconds: the seconds of earlier processes, up to the checkpoint from which this one resumes.
    """

    started: float = field(default_factory=lambda: time.time())
    earlier_seconds: float = 0.0
    _begin: float = field(default_factory=lambda: time.monotonic(), compare=False, repr=False)

    @property
    def seconds(self) -> float:
        """Return the seconds of all processes so far."""
        return self.earlier_seconds + time.monotonic() - self._begin

    def state(self) -> dict[str, float]:
        """Return what a checkpoint keeps, the arguments of the clock of the next process."""
        return {"started": self.started, "earlier_seconds": self.seconds}
