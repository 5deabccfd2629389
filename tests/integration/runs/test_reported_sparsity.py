"""A sparsity that a run does not reach is a warning of its report."""

import pytest

from distill import run
from prune_schedules.scores.pruner import Pruner


def test_sparsity_that_is_not_reached(tiny_run, monkeypatch):
    """Masks that never move, which the look before the first step would refuse."""
    monkeypatch.setattr("distill.training.prepare.plan.check_student", lambda *_: [])
    monkeypatch.setattr(Pruner, "update", lambda self, step, timeline: None)
    given = {"losses.hidden": None, "losses.relations": None, "quantize": None}
    report = run(tiny_run, name="x", **given)
    missing = [line for line in report.warnings if "were to be removed" in line]
    assert missing[0].startswith("elements: 50.0% of the elements were to be removed, 0.")
    assert missing[1] == "neurons: 25.0% of the neurons were to be removed, 0.0% are"


STEPS = {"kind": "Steps", "at": {"4 steps": 0.5}}
REACHED = {
    "heads": {"kind": "Magnitude", "shape": "heads", "sparsity": STEPS},
    "layers": {"kind": "Magnitude", "shape": "layers", "sparsity": STEPS},
    "hidden": {"kind": "Magnitude", "shape": "hidden", "sparsity": STEPS},
    "gates": {"kind": "L0", "shape": "neurons", "sparsity": STEPS},
    "tiles": {"kind": "Magnitude", "shape": [4, 4], "sparsity": STEPS},
    "2:4": {"kind": "Magnitude", "scope": 4, "sparsity": STEPS},
    "both": {
        "units": {"kind": "Magnitude", "shape": "neurons", "sparsity": STEPS},
        "weights": {"kind": "Magnitude", "sparsity": {"kind": "Steps", "at": {"8 steps": 0.7}}},
    },
}


@pytest.mark.parametrize("prune", REACHED)
def test_sparsity_that_is_reached_is_no_warning(tiny_run, prune):
    given = {"losses.hidden": None, "losses.relations": None, "quantize": None, "prune": REACHED[prune]}
    report = run(tiny_run, name="x", **given)
    assert not [line for line in report.warnings if "were to be removed" in line]
