"""A run goes on with more or fewer processes than it was begun with: the same curves, up to rounding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.repositories import save_tiny_bert
from tests.helpers.runs import CONFIG, checkpoint, command, killed, rows
from tests.integration.processes.test_two_processes import still

TWO, ONE = ["--trainer.devices=2"], ["--trainer.devices=1"]


@pytest.fixture(scope="module")
def file(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 16 steps without dropout, which each process draws for itself, and without int8, whose ranges it has."""
    folder = tmp_path_factory.mktemp("processes")
    save_tiny_bert(folder / "still", layers=4, hidden=32, heads=4, labels=["negative", "positive"])
    still(folder / "still")
    text = CONFIG.format(data=materials / "data", teacher=folder / "still", output=folder / "runs")
    file = folder / "run.yaml"
    file.write_text("\n".join(line for line in text.splitlines() if not line.startswith("quantize")))
    finish(file, "whole", ONE)
    return file


def finish(file: Path, name: str, words: list[str]) -> str:
    process = command(file, f"--name={name}", "--resume=auto", *words)
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
@pytest.mark.parametrize("begun", ["one", "two"])
def test_another_number_of_processes(file: Path, begun: str) -> None:
    """Stopped when neurons were cut out, which one process does and two do not."""
    first, second = (ONE, TWO) if begun == "one" else (TWO, ONE)
    killed(file, 12, "after a step", f"--name={begun}", "--resume=auto", *first)
    folder, uninterrupted = file.parent / "runs" / begun, file.parent / "runs" / "whole"
    size = checkpoint(folder)["global_step"], checkpoint(folder)["origin"]["processes"]
    assert size == (11, 1 if begun == "one" else 2)
    assert f"{begun}: goes on after step 11\n" in finish(file, begun, second)
    expected, actual = rows(uninterrupted), rows(folder)
    assert [row["step"] for row in actual] == [row["step"] for row in expected] and len(actual) == 22
    compared = 0
    for one, other in zip(expected, actual, strict=True):
        for key, value in one.items():
            if value:
                compared += 1
                assert float(other[key]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), (one["step"], key)
    assert compared > 100
    report, other = (json.loads((at / "report.json").read_text()) for at in (folder, uninterrupted))
    assert report["models"]["student"]["parameters"] == other["models"]["student"]["parameters"]
    assert any("resumed on" in note and "equal up to rounding" in note for note in report["notes"])
