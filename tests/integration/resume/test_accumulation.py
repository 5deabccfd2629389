"""Batches that make one step together: a validation that comes between them changes nothing, nor does a stop there."""

from pathlib import Path

import pytest

from distill import run
from distill.training.callbacks.checkpoints import LastCheckpoint
from distill.training.stop import Interrupted
from tests.helpers.runs import as_one, interrupted, same, weights

GIVEN = {
    "prune": {
        "gated": {
            "kind": "L0",
            "shape": "heads",
            "sparsity": {"kind": "Cubic", "to": 0.5, "start": "1 steps", "stop": "7 steps"},
        },
        "moved": {
            "kind": "Movement",
            "where": ["ffn"],
            "sparsity": {"kind": "Cubic", "to": 0.5, "start": "1 steps", "stop": "7 steps"},
        },
        "read": {
            "kind": "Wanda",
            "where": ["ffn"],
            "batches": 2,
            "sparsity": {"kind": "Steps", "at": {"6 steps": 0.25}},
        },
        "solved": {
            "kind": "SparseGPT",
            "where": ["attention"],
            "batches": 3,
            "sparsity": {"kind": "Steps", "at": {"6 steps": 0.25}},
        },
    },
    "quantize": None,
    "trainer.accumulate_grad_batches": 2,
    "trainer.val_check_interval": 3,
}


@pytest.mark.filterwarnings("ignore")
def test_validation_within_a_step_changes_nothing_and_a_stop_waits_for_its_end(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 batches in an epoch make 4 steps, and are validated after the third, in a step, and the sixth."""
    interrupted(monkeypatch, 8, tiny_run, name="whole", **GIVEN)
    interrupted(monkeypatch, 8, tiny_run, name="never", **GIVEN | {"trainer.limit_val_batches": 0})
    uninterrupted, never = (tiny_run.parent / "runs" / name for name in ("whole", "never"))
    first, second = weights(uninterrupted), weights(never)
    assert [name for name in first if not same(first[name], second[name])] == []
    real = LastCheckpoint.on_validation_end

    def stop(self, trainer, module):
        self.stop.code = 130
        real(self, trainer, module)

    for at in (2, 3, 6):  # a validation within a step, at the end of one, and while inputs are gathered
        with monkeypatch.context() as patch, pytest.raises(Interrupted, match=f"after step {at} of 8"):
            patch.setattr(LastCheckpoint, "on_validation_end", stop)
            run(tiny_run, name="parts", resume=at > 2, **GIVEN)
    interrupted(monkeypatch, 8, tiny_run, name="parts", resume=True, **GIVEN)
    as_one(uninterrupted, tiny_run.parent / "runs" / "parts")
