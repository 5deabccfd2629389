"""The line of a log file, and its JSON."""

import json
import math

import pytest

from distill.training.callbacks.display.progress import Progress, duration, next_change

VALUES = {
    "loss": 0.412,
    "progress": 0.16,
    "lr": 1e-4,
    "train/hidden": 0.2,
    "train/hidden_weight": 1.0,
    "train/logits": 0.21234,
    "train/logits_weight": 1.0,
    "train/labels_weight": 0.0,
    "sparsity": 0.3,
}
METRICS = {"val/accuracy": 0.83, "val/f1": 0.5}


def test_a_line_has_what_a_person_asks_of_a_run():
    line = Progress(120, 755, VALUES, METRICS, seconds_left=240.0).line()
    assert line == (
        "step 120/755  15 %  loss 0.412 (hidden 0.2, logits 0.212)  val/accuracy 0.83  sparsity 0.3  eta 4 min"
    )


def test_what_is_not_known_yet_is_left_out():
    assert Progress(1, 10).line() == "step 1/10  10 %"
    assert Progress(1, 10, is_validating=True).line() == "step 1/10  10 %  validating"
    assert Progress(1, 10, {"loss": 0.0, "bits": 8}).line() == "step 1/10  10 %  loss 0  bits 8"


def test_json_is_json_whatever_the_numbers_are():
    values = VALUES | {"loss": math.inf, "bits": 4.25}
    data = Progress(3, 10, values, {"val/pearson": math.nan}, 12.4, "in 2 steps: loss hidden ends").to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == {
        "step": 3,
        "total": 10,
        "loss": None,
        "losses": {"hidden": 0.2, "logits": 0.21234},
        "metrics": {"val/pearson": None},
        "sparsity": 0.3,
        "bits": 4.25,
        "eta_seconds": 12,
        "next": "in 2 steps: loss hidden ends",
        "validating": False,
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (5300, "88 min"), (5400, "1 h 30 min"), (90_000, "25 h 0 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


ENTRIES = [
    {"what": "loss hidden", "start_step": 0, "stop_step": 50},
    {"what": "loss logits", "start_step": 50, "stop_step": 100},
    {"what": "8-bit training", "start_step": 70, "stop_step": 100},
]


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (1, "in 49 steps: loss hidden ends, loss logits starts"),
        (49, "in 1 step: loss hidden ends, loss logits starts"),
        (50, "in 20 steps: 8-bit training starts"),
        (70, ""),
    ],
)
def test_the_next_change_is_the_nearest_before_the_end(step, text):
    assert next_change(ENTRIES, step, 100) == text
