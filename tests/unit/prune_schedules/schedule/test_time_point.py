"""Time points of a run: steps, shares and epochs, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_schedules.schedule import (
    Timeline,
    TimePoint,
    window,
)
from tests.helpers.pruning.windows import RUN, fixed


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
