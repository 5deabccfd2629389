"""The time of a run is that of all its processes, without the pauses between them."""

import pytest

from distill.run_dir.clock import Clock


def test_the_seconds_of_earlier_processes_are_added_and_pauses_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"time": 1000.0, "monotonic": 5.0}
    monkeypatch.setattr("distill.run_dir.clock.time.time", lambda: now["time"])
    monkeypatch.setattr("distill.run_dir.clock.time.monotonic", lambda: now["monotonic"])
    first = Clock()
    now["monotonic"] += 30
    state = first.state()
    assert state == {"started": 1000.0, "earlier_seconds": 30.0}
    now["time"], now["monotonic"] = 9000.0, 7.0  # hours later, on a machine that was restarted
    second = Clock(**state)
    now["monotonic"] += 12
    assert (second.started, second.seconds) == (1000.0, 42.0)
    assert Clock(**second.state()).earlier_seconds == 42.0
