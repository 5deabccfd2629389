"""A run goes on as what it was begun as, wherever its folder lies, and as if it had never stopped."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill import run
from distill.reporting.report import Report
from distill.training.callbacks.checkpoints import previous_path
from distill.training.module import Distillation
from tests.helpers.runs import CONFIG, as_one, checkpoint, equal, interrupted, rows, weights

WATCHED = {
    "prune": None,
    "quantize": None,
    "losses": {"labels": {"kind": "Labels"}},
    "trainer.val_check_interval": 2,
}
"""Validated after every second of 16 steps."""
CURVE = {2: 0.5, 4: 0.625, 6: 0.9375, 8: 0.75, 10: 0.875, 12: 0.75, 14: 0.625, 16: 0.6875}
"""The accuracy that is found then: so few steps teach nothing, and the best state is to be none of the last ones."""


def warnings_of(report: Report) -> list[str]:
    """Return the warnings of a report, but for those of models that know nothing."""
    ignorant = ("teacher ", "the student ", "the loss ", "all 16 predictions of the ")
    return [warning for warning in report.warnings if not warning.startswith(ignorant)]


def read_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def trained(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "student" / "model.safetensors")


@pytest.fixture(autouse=True, scope="module")
def curve() -> Iterator[None]:
    """Whatever the student answers, its accuracy is that of ``CURVE``."""
    real = Distillation.on_validation_epoch_end

    def end(module: Distillation) -> None:
        compute, accuracy = module.metrics.compute, torch.tensor(CURVE.get(module.global_step, 0.0))
        module.metrics.compute = lambda: compute() | {"accuracy": accuracy}
        real(module)
        module.metrics.compute = compute

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Distillation, "on_validation_epoch_end", end)
        yield


@pytest.fixture(scope="module")
def watched(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """The report and the folder of a run whose best state is not its last."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "tiny.yaml").write_text(
        CONFIG.format(data=materials / "data", teacher=materials / "teacher", output=folder / "runs")
    )
    report = run(folder / "tiny.yaml", **WATCHED)
    folder = folder / "runs" / "tiny"
    assert checkpoint(folder)["callbacks"]["BestCheckpoint"] == {"score": 0.9375, "step": 6}
    assert warnings_of(report) == []
    assert {int(row["step"]): float(row["val/accuracy"]) for row in rows(folder) if row["val/accuracy"]} == CURVE
    best, last = (checkpoint(folder, name)["state_dict"] for name in ("best", "last"))
    deployed, name = trained(folder)["classifier.weight"], "classifier.weight"
    assert torch.equal(deployed, best[f"student.{name}"]) and not torch.equal(deployed, last[f"student.{name}"])
    return report, folder


class TestElsewhere:
    @pytest.mark.parametrize("change", ["moved", "copied", "by a relative path"])
    def test_the_best_state_is_deployed_though_the_folder_has_another_name(
        self, watched: tuple[Report, Path], tiny_run: Path, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        expected, uninterrupted = watched
        interrupted(monkeypatch, 14, tiny_run, **WATCHED)
        folder, place = tiny_run.parent / "runs", tiny_run.parent / "else" / "where"
        clock = checkpoint(folder / "tiny")["clock"]
        place.parent.mkdir()
        (shutil.copytree if change == "copied" else shutil.move)(folder, place)
        if change == "by a relative path":
            monkeypatch.chdir(place)
        report = run(tiny_run, resume=True, output="." if change == "by a relative path" else str(place), **WATCHED)
        assert report.models["student"].metrics == expected.models["student"].metrics and warnings_of(report) == []
        assert report.seconds >= round(clock["earlier_seconds"], 1), "those of both processes"
        assert report.started == datetime.fromtimestamp(clock["started"]).isoformat(timespec="seconds")
        assert checkpoint(place / "tiny", "best")["global_step"] == 6
        assert equal(trained(place / "tiny"), trained(uninterrupted))
        as_one(uninterrupted, place / "tiny")

    def test_data_and_models_may_lie_elsewhere_if_they_are_the_same(
        self, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = own / "tiny.yaml"
        interrupted(monkeypatch, 16, file, name="whole")
        interrupted(monkeypatch, 9, file, name="parts")
        for name in ("data", "teacher"):
            (own / name).rename(own / f"other-{name}")
        given = {"task.data": str(own / "other-data"), "teacher": str(own / "other-teacher")}
        interrupted(monkeypatch, 16, file, name="parts", resume=True, **given)
        as_one(own / "runs" / "whole", own / "runs" / "parts")

    def test_no_file_of_a_run_holds_its_place(self, watched: tuple[Report, Path]) -> None:
        _, folder = watched
        place = str(folder.parent).encode()
        holds = [path.name for path in folder.rglob("*") if path.is_file() and place in path.read_bytes()]
        assert holds == ["config.yaml"]


class TestBest:
    """The deployed state is the best, or the report says which was lost."""

    def stop(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        interrupted(monkeypatch, 14, file, **WATCHED)
        return file.parent / "runs" / "tiny" / "checkpoints" / "best.ckpt"

    @pytest.mark.parametrize("harm", ["gone", "damaged", "of another step"])
    def test_a_best_state_that_is_lost_is_told_with_its_score(
        self, watched: tuple[Report, Path], tiny_run: Path, monkeypatch: pytest.MonkeyPatch, harm: str
    ) -> None:
        _, uninterrupted = watched
        path = self.stop(tiny_run, monkeypatch)
        previous_path(path).unlink(missing_ok=True)
        if harm == "damaged":
            path.write_bytes(path.read_bytes()[:-100])
        elif harm == "of another step":
            torch.save(torch.load(path, weights_only=True) | {"global_step": 3}, path)
        else:
            path.unlink()
        report = run(tiny_run, resume=True, **WATCHED)
        why = {"gone": "is gone", "damaged": r"is damaged", "of another step": "is of step 3"}[harm]
        assert len(warnings_of(report)) == 1, report.warnings
        lost = "the state with the best val/accuracy, 0.9375 at step 6, is lost"
        assert re.search(rf"{why}.*: {lost}", warnings_of(report)[0])
        assert read_report(path.parents[1])["warnings"] == report.warnings
        best = checkpoint(path.parents[1], "best")
        assert best["global_step"] == 16 and equal(best["state_dict"], weights(uninterrupted)), "the best of the rest"

    def test_a_newer_best_state_that_the_checkpoint_does_not_know_takes_nothing_away(
        self, watched: tuple[Report, Path], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As when the process is killed between a better validation and the next checkpoint, and what follows then
        is other than before: on a GPU, or with another number of processes.
        """
        _, uninterrupted = watched
        path = self.stop(tiny_run, monkeypatch)
        path.rename(previous_path(path))
        torch.save(torch.load(previous_path(path), weights_only=True) | {"global_step": 15}, path)
        report = run(tiny_run, resume=True, **WATCHED)
        assert warnings_of(report) == [] and checkpoint(path.parents[1], "best")["global_step"] == 6
        assert equal(trained(path.parents[1]), trained(uninterrupted))

    def test_the_state_that_the_checkpoint_knows_stays_while_there_are_better_ones(
        self, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        improves = iter([True, True, True, True])
        monkeypatch.setattr(
            "distill.training.callbacks.checkpoints.BestCheckpoint._improves", lambda self, score: next(improves, False)
        )
        monkeypatch.setattr(
            "distill.training.callbacks.checkpoints.LastCheckpoint.on_validation_end", lambda *given: None
        )
        interrupted(monkeypatch, 9, tiny_run, **WATCHED)
        path = tiny_run.parent / "runs" / "tiny" / "checkpoints" / "best.ckpt"
        assert checkpoint(path.parents[1])["callbacks"]["BestCheckpoint"]["step"] == 8
        assert torch.load(path, weights_only=True)["global_step"] == 8
        known = checkpoint(path.parents[1])
        assert known["global_step"] == 9
        # two more are better before the next checkpoint, which never comes
        improves = iter([True, True])
        monkeypatch.setattr("distill.training.callbacks.checkpoints.LastCheckpoint.save", lambda *given: None)
        # the package's own name for the module is the function
        monkeypatch.setattr(sys.modules["distill.runner"], "export", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tiny_run, resume=True, **WATCHED)
        assert torch.load(path, weights_only=True)["global_step"] == 12
        assert torch.load(previous_path(path), weights_only=True)["global_step"] == 8

    def test_a_run_that_was_never_validated_in_its_final_form_says_so(self, tiny_run: Path) -> None:
        report = run(tiny_run, **WATCHED | {"trainer.limit_val_batches": 0})
        assert [w for w in report.warnings if w.startswith("the last state is deployed: no state with the student")]


def test_stopped_at_the_end_of_an_epoch_and_again_in_the_next_it_is_the_run_left_alone(monkeypatch, tiny_run):
    """Lightning counts such an epoch as done and the next one as never begun, and went back to its first batch."""
    given = WATCHED | {"trainer.val_check_interval": 3}
    interrupted(monkeypatch, 16, tiny_run, name="whole", **given)
    for stop in (8, 10, 16):
        interrupted(monkeypatch, stop, tiny_run, name="parts", resume="auto", **given)
    as_one(*(tiny_run.parent / "runs" / name for name in ("whole", "parts")))
