"""A run is validated at least five times, at the ends of epochs and at its own end, however it is divided."""

from pathlib import Path

import pytest

from distill import run
from distill.training.callbacks.validation import validation_steps
from prune_schedules.schedule import Timeline
from tests.helpers.runs import interrupted, resumes_bit_for_bit, rows

QUICK = {"prune": None, "quantize": None, "losses": {"labels": {"kind": "Labels"}}}


@pytest.mark.parametrize(
    ("total", "epoch", "steps"),
    [
        (50, 50, [10, 20, 30, 40, 50]),  # one epoch
        (16, 8, [3, 6, 8, 11, 14, 16]),  # two, each of which ends with a validation
        (21, 7, [4, 7, 11, 14, 18, 21]),
        (40, 8, [8, 16, 24, 32, 40]),  # five: as often as there are epochs
        (18, 3, [3, 6, 9, 12, 15, 18]),
        (500, 2000, [100, 200, 300, 400, 500]),  # max_steps ends the run within its first epoch
        (22, 4, [4, 8, 12, 16, 20, 22]),  # and here within its sixth
        (3, 8, [1, 2, 3]),
        (1, 1, [1]),
    ],
)
def test_steps(total: int, epoch: int, steps: list[int]) -> None:
    assert sorted(validation_steps(Timeline(total, epoch))) == steps


def validated(folder: Path) -> list[int]:
    return [int(row["step"]) for row in rows(folder) if row["val/accuracy"]]


def test_the_curve_of_one_epoch_has_five_points(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(monkeypatch, 8, tiny_run, **QUICK | {"trainer.max_epochs": 1})
    assert validated(tiny_run.parent / "runs" / "tiny") == [2, 4, 5, 7, 8]


def test_what_the_config_says_holds(tiny_run: Path) -> None:
    report = run(tiny_run, **QUICK | {"trainer.check_val_every_n_epoch": 2})
    assert validated(report.folder) == [16]


@pytest.mark.parametrize("stop", [3, 4])  # at a validation within an epoch, and after it
def test_resumed_it_is_validated_at_the_same_steps(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    given = QUICK | {"trainer.accumulate_grad_batches": 2, "trainer.max_epochs": 2}
    folder = resumes_bit_for_bit(monkeypatch, stop, 8, tiny_run, **given)
    assert validated(folder) == [2, 3, 4, 6, 7, 8]
