"""NaN on one of two processes stops both at that step with one line."""

import os
import subprocess
import sys

import pytest

from tests.helpers.runs import ROOT, weights

INJECT = """
import os, sys
from losses.outputs.logits import Logits
from tests.integration.runs.test_finite import NanGradient
from tests.helpers.runs import train_command

real, calls = Logits.divergence, iter(range(1, 100))

def divergence(self, log_p, log_q):
    value = real(self, log_p, log_q)
    if next(calls) == 3 and os.environ.get("LOCAL_RANK") == "1":
        return {change}
    return value

Logits.divergence = divergence
sys.exit(train_command(sys.argv[1:]))
"""
CHANGES = {"value": "value * float('nan')", "gradient": "NanGradient.apply(value)"}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize("change", CHANGES)
def test_one_of_two_processes(tiny_run, strategy, change):
    """Both stop, with one line and exit code 1."""
    text = tiny_run.read_text()
    tiny_run.write_text(text[: text.index("prune:")] + text[text.index("optimizer:") :])
    script = tiny_run.with_name("inject.py")
    script.write_text(INJECT.format(change=CHANGES[change]))
    words = ["--config", str(tiny_run), "--trainer.devices=2", f"--trainer.strategy={strategy}"]
    done = subprocess.run(
        [sys.executable, str(script), *words],
        cwd=tiny_run.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("stopped")]
    cause = "the loss 'logits' is nan" if change == "value" else "the gradient of student"
    assert len(lines) == 1 and lines[0].startswith(f"stopped at step 3 of 16: {cause}"), done.stderr
    folder = tiny_run.parent / "runs" / "tiny"
    assert not (folder / "student").exists()
    assert all(value.isfinite().all() for value in weights(folder).values())
