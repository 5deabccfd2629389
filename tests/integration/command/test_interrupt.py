"""Ctrl-C while the command is imported or works: one line, and the exit code of the signal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.runs import ROOT

HANGS = """
import runpy, sys, time
import distill.training.module

def hang(*_):
    print("in a step", flush=True)
    while True:
        time.sleep(1)

distill.training.module.Distillation.training_step = hang
sys.argv = ["train.py", *sys.argv[2:]]
runpy.run_path({train!r}, run_name="__main__")
"""


def test_two_ctrl_c_end_a_command_at_once_with_a_line(tiny_run: Path) -> None:
    """Also where the first is waited for, a step that lasts for ever."""
    script = tiny_run.parent / "hangs.py"
    script.write_text(HANGS.format(train=str(ROOT / "train.py")))
    process = subprocess.Popen(
        [sys.executable, str(script), "-", "--config", str(tiny_run), "--prune=null", "--quantize=null"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "in a step" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.splitlines()[-1] == "stopped at once; if steps were made, go on with --resume"


IMPORTS = """
import runpy, sys, time

class Slow:
    def find_spec(name, path=None, target=None):
        if name == "distill.experiment.runs":
            print("importing", flush=True)
            time.sleep(600)

sys.meta_path.insert(0, Slow)
sys.argv = ["train.py", "--config", "quickstart.yaml"]
runpy.run_path({train!r}, run_name="__main__")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_program_is_imported(number: int, code: int) -> None:
    script = IMPORTS.format(train=str(ROOT / "train.py"))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err == "stopped at once; if steps were made, go on with --resume\n"
