"""A schedule: a pure function of the step, so that it has no state to resume."""

import math

from distill import Ramp


class Root(Ramp):
    """A ramp that is steep at first, ``sqrt(x)``."""

    def progress(self, x: float) -> float:
        return math.sqrt(x)
