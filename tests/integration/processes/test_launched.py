"""Processes that a launcher has started are one run; where they would be several, each refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.runs import ROOT, rows

GIVEN = ["--prune=null", "--quantize=null", "--trainer.max_epochs=1"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29617", str(ROOT / "train.py")]
SLURM = {
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "1",
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "train",
    "SLURM_STEP_ID": "0",
    "SLURM_NODEID": "0",
    "MASTER_ADDR": "127.0.0.1",
}


def started(words: list[str], **variables: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def ended(*processes: subprocess.Popen) -> tuple[list[int], str]:
    output = "".join(process.communicate(timeout=900)[0] for process in processes)
    return [process.returncode for process in processes], output


def one_run(folder: Path, output: str) -> None:
    assert output.count("report: ") == 1 and output.count(" steps, ") == 1, output
    steps = [int(row["step"]) for row in rows(folder) if row["train/logits"]]
    assert steps == list(range(8))


@pytest.mark.slow
def test_torchrun(tiny_run: Path) -> None:
    words = [*TORCHRUN, "--config", str(tiny_run), *GIVEN]
    codes, output = ended(started([*words, "--trainer.devices=1"]))
    assert codes == [1], output  # what torchrun makes of a 2
    assert output.count("--trainer.devices: torchrun has 2 processes, and this makes 1;") >= 1, output
    assert not (tiny_run.parent / "runs").exists()
    codes, output = ended(started(words))
    assert codes == [0], output
    one_run(tiny_run.parent / "runs" / "tiny", output)


@pytest.mark.slow
def test_tasks_of_slurm(tiny_run: Path) -> None:
    def tasks(*words: str) -> tuple[list[int], str]:
        command = [str(ROOT / "train.py"), "--config", str(tiny_run), *GIVEN, *words]
        return ended(*(started(command, **SLURM, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in "01"))

    codes, output = tasks("--trainer.devices=1")
    assert codes == [2, 2] and output.count("--trainer.devices: srun has 2 processes, and this makes 1;") == 2, output
    assert not (tiny_run.parent / "runs").exists()
    codes, output = tasks()
    assert codes == [0, 0], output
    one_run(tiny_run.parent / "runs" / "tiny", output)
