"""One process, two under DDP and two in shards give one answer, over how many batches a step may be spread.

They see the same batches: of 7 rows, which the processes share as 4 and 3, and a last one of one row, in which the
second is idle.
"""

from pathlib import Path

import pytest
import torch
import yaml

from tests.helpers.repositories import save_tiny_bert
from tests.helpers.runs import CONFIG, command, rows, weights
from tests.integration.processes.test_two_processes import still

SPREAD = (1, 2, 4)
LOSSES = {
    "labels": {"kind": "Labels"},
    "hidden": {"kind": "HiddenMSE", "layers": "uniform"},
    "logits": {"kind": "Logits", "temperature": {"kind": "Linear", "initial": 4.0, "to": 1.0}},
}


@pytest.fixture(scope="module")
def file(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, of steps over 1, 2 and 4 batches."""
    folder = tmp_path_factory.mktemp("same")
    save_tiny_bert(folder / "teacher", layers=4, hidden=32, heads=4, labels=["negative", "positive"])
    still(folder / "teacher")
    base = yaml.safe_load(CONFIG.format(data=materials / "data", teacher=folder / "teacher", output=""))
    base |= {"losses": LOSSES, "prune": None, "quantize": None, "optimizer": {"lr": 1e-4}}
    base["task"]["batch_size"] = 7
    del base["output"]
    documents = [
        base | {"name": f"over-{n}", "trainer": base["trainer"] | {"accumulate_grad_batches": n}} for n in SPREAD
    ]
    (folder / "x.yaml").write_text(yaml.safe_dump_all(documents, sort_keys=False))
    return folder / "x.yaml"


@pytest.fixture(scope="module")
def alone(file: Path) -> Path:
    """What one process made."""
    return made(file, "alone")


def made(file: Path, name: str, *words: str) -> Path:
    process = command(file, f"--output={file.parent / name}", *words)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return file.parent / name


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_two_processes_answer_as_one(file: Path, alone: Path, strategy: str) -> None:
    together = made(file, strategy, "--trainer.devices=2", f"--trainer.strategy={strategy}")
    for n in SPREAD:
        first, second = rows(alone / f"over-{n}"), rows(together / f"over-{n}")
        steps = 2 * -(-10 // n)  # 64 rows are nine batches of 7 and one of 1, twice
        assert len([row for row in first if row["train/logits"]]) == steps
        assert [row["step"] for row in first] == [row["step"] for row in second]
        for a, b in zip(first, second, strict=True):
            for key in (key for key in a if a[key]):
                assert float(b[key]) == pytest.approx(float(a[key]), abs=1e-6), (n, a["step"], key)
        alone_weights, together_weights = weights(alone / f"over-{n}"), weights(together / f"over-{n}")
        assert alone_weights.keys() == together_weights.keys()
        for name, value in alone_weights.items():
            torch.testing.assert_close(
                together_weights[name], value, atol=1e-5, rtol=0, msg=f"over {n} batches: {name}"
            )
