"""Time points, and schedules as functions of the step: by hand, and what holds for every window."""

import math
from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_schedules.schedule import (
    Constant,
    Cosine,
    Cubic,
    Cyclic,
    Linear,
    Steps,
    Timeline,
    TimePoint,
)
from tests.helpers.pruning.windows import RUN, fixed, numbers, steps, windows

RAMPS = [Linear, Cosine, Cubic]


def test_schedules_are_values():
    assert Cubic(to=0.5) == Cubic(to=0.5) != Linear(to=0.5)
    with pytest.raises(FrozenInstanceError):
        Cubic(to=0.5).to = 0.6


def test_constant():
    assert {Constant(0.3).value(step, RUN) for step in range(101)} == {0.3}
    assert Constant(0.3).time_points() == {} and Constant(0.3).span(RUN) == (0, 0)


@pytest.mark.parametrize("kind", RAMPS)
@fixed
@given(windows, numbers, numbers)
def test_a_ramp_goes_from_one_end_to_the_other_and_never_back(kind, window, initial, to):
    total, (start, stop) = window
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
    assert ramp.time_points() == {"start": TimePoint("20 steps"), "stop": TimePoint("60 steps")}
    assert ramp.span(RUN) == (20, 60)


@fixed
@given(windows, st.floats(0, 1), st.floats(0, 1))
def test_cubic_is_the_formula_of_zhu_and_gupta(window, s0, sf):
    total, (start, stop) = window
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
    values = [stairs.value(step, RUN) for step in (0, 29, 30, 39, 40, 59, 60, 100)]
    assert values == [0.1, 0.1, 0.5, 0.5, 0.2, 0.2, 0.8, 0.8]


def test_the_order_of_stairs_in_the_file_does_not_count():
    shuffled, ordered = Steps(at={"60%": 0.8, "30%": 0.5}), Steps(at={"30%": 0.5, "60%": 0.8})
    assert [shuffled.value(step, RUN) for step in range(101)] == [ordered.value(step, RUN) for step in range(101)]


def test_steps_name_their_stairs():
    assert Steps(at={"30%": 0.5, "60%": 0.8}).time_points() == {"at.30%": TimePoint("30%"), "at.60%": TimePoint("60%")}
    with pytest.raises(ValueError, match=r"^at: "):
        Steps(at={})
    with pytest.raises(ValueError, match="'soon' is not a time point"):
        Steps(at={"soon": 1.0})


def test_cyclic_goes_up_and_down():
    cycle = Cyclic(initial=1.0, to=3.0, cycles=2, start=TimePoint("20 steps"), stop=TimePoint("60 steps"))
    values = [cycle.value(step, RUN) for step in (0, 20, 25, 30, 35, 40, 45, 50, 60, 100)]
    assert values == [1, 1, 2, 3, 2, 1, 2, 3, 1, 1]
    assert cycle.time_points() == {"start": TimePoint("20 steps"), "stop": TimePoint("60 steps")}


@fixed
@given(windows, st.integers(1, 5))
def test_cyclic_stays_between_its_ends_and_repeats(window, cycles):
    total, (start, stop) = window
    timeline = Timeline(total * cycles, 1)
    cycle = Cyclic(to=1.0, cycles=cycles, start=steps(start * cycles), stop=steps(stop * cycles))
    values = [cycle.value(step, timeline) for step in range(total * cycles + 1)]
    assert all(0 <= value <= 1 for value in values)
    assert not any(values[: start * cycles + 1] + values[stop * cycles :])
    inside, period = values[start * cycles : stop * cycles], stop - start
    assert inside[period:] == pytest.approx(inside[: len(inside) - period], abs=1e-9)


def test_at_least_one_cycle():
    with pytest.raises(ValueError, match=r"^cycles: "):
        Cyclic(to=1.0, cycles=0)
