"""Steps in turn: what is counted, and the ratios."""

from itertools import accumulate, chain, repeat

import pytest

from benchmarks.turns import WARM_UP, comparison, time_in_turn


def test_each_step_takes_each_item_in_turn_and_the_first_are_not_counted():
    seen = []
    # The clock moves by 2 within the steps of one and by 1 within those of the other, and between them by 10.
    clock = accumulate(chain([0], chain.from_iterable(repeat([2, 10, 1, 10]))))
    steps = {name: lambda item, name=name: seen.append((name, item)) for name in ("slow", "quick")}
    times = time_in_turn(steps, range(WARM_UP + 4), clock=lambda: next(clock))
    assert seen == [(name, item) for item in range(WARM_UP + 4) for name in ("slow", "quick")]
    assert times == {"slow": [2] * 4, "quick": [1] * 4}


def test_the_median_is_that_of_pairs_in_the_same_turn():
    """A machine that gets slower is in both; the ratio of the medians would be 1.2."""
    times = {"slow": [2.0, 6.0, 30.0], "plain": [1.0, 5.0, 20.0]}
    assert comparison(times, "slow", "plain").startswith("slow against plain: 1.500 of the time, ")
    with pytest.raises(ValueError):
        comparison(times | {"slow": [1.0]}, "slow", "plain")
