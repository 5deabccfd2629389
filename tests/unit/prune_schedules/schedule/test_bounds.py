"""Bounds of a schedule and the steps of its values are those of a walk over all steps."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_schedules.schedule import (
    Constant,
    Cosine,
    Cubic,
    Cyclic,
    Linear,
    Schedule,
    Steps,
    Timeline,
)
from tests.helpers.pruning.windows import RUN, fixed, numbers, steps, windows


@st.composite
def schedules(draw):
    """A schedule of any class, a short run, and a window of it."""
    total, (start, stop) = draw(windows.filter(lambda window: window[0] <= 120))
    ends = {"start": steps(start), "stop": steps(stop)}
    values = numbers | st.sampled_from([0.0, 1.0])
    kind = draw(st.sampled_from([Constant, Linear, Cosine, Cubic, Steps, Cyclic]))
    if kind is Constant:
        schedule = Constant(draw(values))
    elif kind is Steps:
        stairs = draw(st.dictionaries(st.integers(0, total), values, min_size=1, max_size=5))
        schedule = Steps(at={f"{step} steps": value for step, value in stairs.items()}, initial=draw(values))
    else:
        more = {"cycles": draw(st.integers(1, 40))} if kind is Cyclic else {}
        schedule = kind(to=draw(values), initial=draw(values), **ends, **more)
    inside = sorted(draw(st.lists(st.integers(0, total), min_size=2, max_size=2)))
    return schedule, Timeline(total, 1), inside


@settings(fixed, max_examples=200)
@given(schedules())
def test_bounds_are_those_of_a_walk(window):
    schedule, timeline, (start, stop) = window
    walked = [schedule.value(step, timeline) for step in range(start, stop + 1)]
    assert schedule.bounds(timeline, start, stop) == pytest.approx((min(walked), max(walked)), abs=1e-12)
    walked = [schedule.value(step, timeline) for step in range(timeline.total_steps)]
    assert schedule.bounds(timeline) == pytest.approx((min(walked), max(walked)), abs=1e-12)


@settings(fixed, max_examples=200)
@given(schedules(), st.sampled_from([0.0, 1.0]))
def test_the_steps_of_a_value_are_those_of_a_walk(window, number):
    schedule, timeline, _ = window
    walked = [step for step in range(timeline.total_steps) if schedule.value(step, timeline) == number]
    assert [step for steps in schedule.equal_to(number, timeline) for step in steps] == walked
    others = [step for steps in schedule.differs_from(number, timeline) for step in steps]
    assert others == sorted({*range(timeline.total_steps)} - {*walked})


@pytest.mark.parametrize("kind", [Constant, Linear, Cosine, Cubic, Steps, Cyclic])
def test_a_long_run_is_not_walked(kind):
    given = {"at": {"30%": 1.0}} if kind is Steps else {"to": 1.0}
    schedule, timeline = kind(**given), Timeline(10**9, 10**8)
    assert len(schedule.extremes(timeline)) <= 8 and schedule.sampling_interval(timeline) == 1
    assert schedule.bounds(timeline)[1] == pytest.approx(1.0)


def test_a_schedule_that_does_not_say_where_it_turns_is_sampled():
    class _Wave(Schedule):
        def value(self, step: int, timeline: Timeline) -> float:
            return math.sin(step)

    assert _Wave().sampling_interval(RUN) == 1 and _Wave().extremes(RUN) == list(range(100))
    assert _Wave().sampling_interval(Timeline(10**6, 1)) == 100 and len(_Wave().extremes(Timeline(10**6, 1))) == 20_000
