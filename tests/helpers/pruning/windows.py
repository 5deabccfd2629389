"""Windows and schedules that hypothesis draws."""

from hypothesis import settings
from hypothesis import strategies as st

from prune_schedules.schedule import (
    Timeline,
    TimePoint,
)

RUN = Timeline(total_steps=100, epoch_steps=20)
fixed = settings(derandomize=True, deadline=None, database=None)
numbers = st.floats(-10, 10)
windows = st.integers(1, 500).flatmap(
    lambda total: st.tuples(st.just(total), st.lists(st.integers(0, total), min_size=2, max_size=2).map(sorted))
)


def steps(number: int) -> TimePoint:
    return TimePoint(f"{number} steps")
