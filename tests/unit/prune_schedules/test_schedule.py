"""Moments, and schedules as functions of the step: by hand, and what holds for every window."""

import math
from dataclasses import FrozenInstanceError
from itertools import pairwise

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
    TimePoint,
    window,
)

RUN = Timeline(total_steps=100, epoch_steps=20)
RAMPS = [Linear, Cosine, Cubic]
fixed = settings(derandomize=True, deadline=None, database=None)
numbers = st.floats(-10, 10)
windows = st.integers(1, 500).flatmap(
    lambda total: st.tuples(st.just(total), st.lists(st.integers(0, total), min_size=2, max_size=2).map(sorted))
)


def steps(number: int) -> TimePoint:
    return TimePoint(f"{number} steps")


@pytest.mark.parametrize(
    "text, step",
    [
        ("0%", 0),
        ("10%", 10),
        ("12.5%", 12),
        ("100%", 100),
        ("1 epoch", 20),
        ("2 epochs", 40),
        ("0.5 epochs", 10),
        ("5 epochs", 100),
        ("1 step", 1),
        ("37 steps", 37),
        (" 10 % ", 10),
        ("100steps", 100),
    ],
)
def test_a_moment_is_a_step(text, step):
    assert TimePoint(text).step(RUN) == step and str(TimePoint(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "%",
        "ten %",
        "-1%",
        "1e2 steps",
        "2 hours",
        "2 epoch s",
        "10%%",
        "1.%",
        10,
        None,
    ],
)
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(ValueError, match="write '10%', '2 epochs' or '500 steps'"):
        TimePoint(text)


def test_more_than_all_of_the_run_is_refused():
    with pytest.raises(ValueError, match=r"'100\.5%' lies after the end of the run"):
        TimePoint("100.5%")


@pytest.mark.parametrize("text, step", [("101 steps", 101), ("5.1 epochs", 102)])
def test_a_moment_after_the_last_step_is_refused_once_the_run_is_known(text, step):
    with pytest.raises(ValueError, match=rf"'{text}' is step {step}, but the run ends at step 100"):
        TimePoint(text).step(RUN)


@fixed
@given(st.floats(0, 100), st.floats(0, 100), st.integers(1, 10**6))
def test_later_shares_are_later_steps(first, second, total):
    low, high = (TimePoint(f"{share:.4f}%").step(Timeline(total, 1)) for share in sorted((first, second)))
    assert 0 <= low <= high <= total


def test_a_window_does_not_end_before_it_starts():
    assert window(TimePoint("10%"), TimePoint("1 epoch"), RUN) == (10, 20)
    assert window(TimePoint("20%"), TimePoint("1 epoch"), RUN) == (20, 20)
    with pytest.raises(ValueError, match=r"^stop: the window ends at step 20, before it starts at step 30"):
        window(TimePoint("30%"), TimePoint("1 epoch"), RUN)


def test_schedules_are_values():
    assert Cubic(to=0.5) == Cubic(to=0.5) != Linear(to=0.5)
    with pytest.raises(FrozenInstanceError):
        Cubic(to=0.5).to = 0.6


def test_constant():
    assert {Constant(0.3).value(step, RUN) for step in range(101)} == {0.3}
    assert Constant(0.3).moments() == {} and Constant(0.3).span(RUN) == (0, 0)


@pytest.mark.parametrize("kind", RAMPS)
@fixed
@given(windows, numbers, numbers)
def test_a_ramp_goes_from_one_end_to_the_other_and_never_back(kind, found, initial, to):
    total, (start, stop) = found
    ramp, timeline = kind(initial=initial, to=to, start=steps(start), stop=steps(stop)), Timeline(total, 1)
    values = [ramp.value(step, timeline) for step in range(total + 1)]
    assert all(value == initial for value in values[:start])
    assert all(value == to for value in values[stop:])
    assert start == stop or values[start] == initial
    direction = math.copysign(1, to - initial)
    assert all((after - before) * direction >= -1e-12 for before, after in pairwise(values))


@pytest.mark.parametrize("kind", RAMPS)
def test_an_empty_window_is_a_jump(kind):
    jump = kind(initial=1.0, to=3.0, start=TimePoint("50%"), stop=TimePoint("50%"))
    assert [jump.value(step, RUN) for step in (0, 49, 50, 100)] == [1.0, 1.0, 3.0, 3.0]


@pytest.mark.parametrize(
    "kind, quarter, half",
    [
        (Linear, 0.25, 0.5),
        (Cosine, (1 - math.sqrt(0.5)) / 2, 0.5),
        (Cubic, 1 - 0.75**3, 0.875),
    ],
)
def test_the_shape_of_a_ramp(kind, quarter, half):
    ramp = kind(initial=2.0, to=10.0, start=TimePoint("20 steps"), stop=TimePoint("60 steps"))
    assert ramp.value(30, RUN) == pytest.approx(2 + 8 * quarter)
    assert ramp.value(40, RUN) == pytest.approx(2 + 8 * half)
    assert ramp.moments() == {"start": TimePoint("20 steps"), "stop": TimePoint("60 steps")}
    assert ramp.span(RUN) == (20, 60)


@fixed
@given(windows, st.floats(0, 1), st.floats(0, 1))
def test_cubic_is_the_formula_of_zhu_and_gupta(found, s0, sf):
    total, (start, stop) = found
    cubic, timeline = Cubic(initial=s0, to=sf, start=steps(start), stop=steps(stop)), Timeline(total, 1)
    for step in range(start, stop):
        expected = sf + (s0 - sf) * (1 - (step - start) / (stop - start)) ** 3
        assert cubic.value(step, timeline) == pytest.approx(expected, abs=1e-12)
    assert cubic.value(stop, timeline) == sf


def test_cubic_ends_flat_and_starts_three_times_as_steep_as_a_line():
    run = Timeline(10_000, 1)
    first, last = (Cubic(to=1.0).value(b, run) - Cubic(to=1.0).value(a, run) for a, b in ((0, 1), (9_999, 10_000)))
    assert first == pytest.approx(3 / 10_000, rel=1e-3)
    assert last == pytest.approx(0, abs=1e-11)


@pytest.mark.parametrize("kind", [*RAMPS, Cyclic])
def test_a_window_that_ends_before_it_starts_is_refused(kind):
    with pytest.raises(ValueError, match=r"^stop: "):
        kind(to=1.0, start=TimePoint("50%"), stop=TimePoint("2 epochs")).value(0, RUN)


def test_steps_hold_until_the_next():
    stairs = Steps(at={"30%": 0.5, "2 epochs": 0.2, "60 steps": 0.8}, initial=0.1)
    found = [stairs.value(step, RUN) for step in (0, 29, 30, 39, 40, 59, 60, 100)]
    assert found == [0.1, 0.1, 0.5, 0.5, 0.2, 0.2, 0.8, 0.8]


def test_the_order_of_stairs_in_the_file_does_not_count():
    shuffled, ordered = Steps(at={"60%": 0.8, "30%": 0.5}), Steps(at={"30%": 0.5, "60%": 0.8})
    assert [shuffled.value(step, RUN) for step in range(101)] == [ordered.value(step, RUN) for step in range(101)]


def test_steps_name_their_stairs():
    assert Steps(at={"30%": 0.5, "60%": 0.8}).moments() == {"at.30%": TimePoint("30%"), "at.60%": TimePoint("60%")}
    with pytest.raises(ValueError, match=r"^at: "):
        Steps(at={})
    with pytest.raises(ValueError, match="'soon' is not a moment"):
        Steps(at={"soon": 1.0})


def test_cyclic_goes_up_and_down():
    cycle = Cyclic(initial=1.0, to=3.0, cycles=2, start=TimePoint("20 steps"), stop=TimePoint("60 steps"))
    found = [cycle.value(step, RUN) for step in (0, 20, 25, 30, 35, 40, 45, 50, 60, 100)]
    assert found == [1, 1, 2, 3, 2, 1, 2, 3, 1, 1]
    assert cycle.moments() == {"start": TimePoint("20 steps"), "stop": TimePoint("60 steps")}


@fixed
@given(windows, st.integers(1, 5))
def test_cyclic_stays_between_its_ends_and_repeats(found, cycles):
    total, (start, stop) = found
    timeline = Timeline(total * cycles, 1)
    cycle = Cyclic(to=1.0, cycles=cycles, start=steps(start * cycles), stop=steps(stop * cycles))
    values = [cycle.value(step, timeline) for step in range(total * cycles + 1)]
    assert all(0 <= value <= 1 for value in values)
    assert not any(values[: start * cycles + 1] + values[stop * cycles :])
    inside, period = values[start * cycles : stop * cycles], stop - start
    assert inside[period:] == pytest.approx(inside[: len(inside) - period], abs=1e-9)


@st.composite
def schedules(draw):
    """A schedule of any class, a short run, and a window of it."""
    total, (start, stop) = draw(windows.filter(lambda found: found[0] <= 120))
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
def test_bounds_are_those_of_a_walk(found):
    schedule, timeline, (start, stop) = found
    walked = [schedule.value(step, timeline) for step in range(start, stop + 1)]
    assert schedule.bounds(timeline, start, stop) == pytest.approx((min(walked), max(walked)), abs=1e-12)
    walked = [schedule.value(step, timeline) for step in range(timeline.total_steps)]
    assert schedule.bounds(timeline) == pytest.approx((min(walked), max(walked)), abs=1e-12)


@settings(fixed, max_examples=200)
@given(schedules(), st.sampled_from([0.0, 1.0]))
def test_the_steps_of_a_value_are_those_of_a_walk(found, number):
    schedule, timeline, _ = found
    walked = [step for step in range(timeline.total_steps) if schedule.value(step, timeline) == number]
    assert [step for steps in schedule.equal_to(number, timeline) for step in steps] == walked
    others = [step for steps in schedule.differs_from(number, timeline) for step in steps]
    assert others == sorted({*range(timeline.total_steps)} - {*walked})


@pytest.mark.parametrize("kind", [Constant, Linear, Cosine, Cubic, Steps, Cyclic])
def test_a_long_run_is_not_walked(kind):
    given = {"at": {"30%": 1.0}} if kind is Steps else {"to": 1.0}
    schedule, timeline = kind(**given), Timeline(10**9, 10**8)
    assert len(schedule.extremes(timeline)) <= 8 and schedule.sampled_every(timeline) == 1
    assert schedule.bounds(timeline)[1] == pytest.approx(1.0)


def test_a_schedule_that_does_not_say_where_it_turns_is_sampled():
    class _Wave(Schedule):
        def value(self, step: int, timeline: Timeline) -> float:
            return math.sin(step)

    assert _Wave().sampled_every(RUN) == 1 and _Wave().extremes(RUN) == list(range(100))
    assert _Wave().sampled_every(Timeline(10**6, 1)) == 100 and len(_Wave().extremes(Timeline(10**6, 1))) == 20_000


def test_at_least_one_cycle():
    with pytest.raises(ValueError, match=r"^cycles: "):
        Cyclic(to=1.0, cycles=0)
