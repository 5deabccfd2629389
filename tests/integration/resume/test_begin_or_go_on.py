"""``--resume auto`` is one command for all starts; after SIGKILL nothing is lost, and nothing stands twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from distill import run
from distill.config.loader import ConfigError
from distill.training.callbacks.checkpoints import previous_path, read_checkpoint
from distill.training.callbacks.metrics_csv import MetricsCSV, read_rows
from tests.helpers.runs import CONFIG, as_one, checkpoint, interrupted, killed, rows, train_command, weights
from tests.integration.runs.test_chain import CHAIN

AUTO = [["--resume", "auto"], ["--resume=auto"]]


@pytest.fixture(scope="module")
def whole(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("unkilled")
    file = folder / "tiny.yaml"
    file.write_text(CONFIG.format(data=materials / "data", teacher=materials / "teacher", output=folder / "runs"))
    run(file, name="whole", resume="auto")
    return folder / "runs" / "whole"


def refused(capsys: pytest.CaptureFixture, words: list[str], told: str) -> None:
    assert train_command(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and told in err, err


@pytest.mark.parametrize("words", AUTO, ids=" ".join)
def test_one_command_goes_on_and_is_done(
    whole: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, words: list[str]
) -> None:
    interrupted(monkeypatch, 9, tiny_run, name="parts", resume="auto")
    command, folder = ["--config", str(tiny_run), "--name=parts", *words], tiny_run.parent / "runs" / "parts"
    capsys.readouterr()
    assert train_command(command) == 0
    out = capsys.readouterr().out
    assert "\nparts: goes on after step 9\n" in out
    as_one(whole, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert train_command(command) == 0
    assert capsys.readouterr().out == f"parts: is done already, {folder / 'report.html'}\n"
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    refused(capsys, [*command, "--seed=1"], "seed: is not what the run in")
    shutil.rmtree(folder / "checkpoints")
    assert train_command(command) == 0
    capsys.readouterr()
    refused(
        capsys, [*command[:3], "--resume"], f"name: the run in {folder} is done, and no checkpoint is left to go on"
    )


def test_a_slurm_job_need_not_say_it(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    interrupted(monkeypatch, 14, tiny_run)
    capsys.readouterr()
    refused(capsys, ["--config", str(tiny_run)], "already holds a run; continue it with --resume")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")  # Lightning makes nothing of the job then
    assert train_command(["--config", str(tiny_run)]) == 0
    assert "tiny: goes on after step 14\n" in capsys.readouterr().out
    assert train_command(["--config", str(tiny_run)]) == 0
    assert capsys.readouterr().out.startswith("tiny: is done already, ")


def test_other_spellings_are_refused(tiny_run: Path, capsys: pytest.CaptureFixture) -> None:
    refused(capsys, ["--config", str(tiny_run), "--resume"], "there is no run in")
    refused(capsys, ["--config", str(tiny_run), "--resume=always"], "argument --resume: invalid choice: 'always'")
    (tiny_run.parent / "runs" / "tiny").mkdir(parents=True)
    (tiny_run.parent / "runs" / "tiny" / "notes.txt").write_text("mine")
    refused(
        capsys, ["--config", str(tiny_run), "--resume=auto"], "already holds files, but no run; give this one another"
    )


def test_several_runs_of_one_file(
    materials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text(CHAIN.format(data=materials / "data", teacher=materials / "teacher", output=tmp_path / "runs"))
    interrupted(monkeypatch, 5, file, resume="auto")
    interrupted(monkeypatch, 5, file, resume="auto")  # the first goes on, the second begins
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    command = ["--config", str(file), "--resume=auto", f"--output={tmp_path / 'elsewhere'}"]
    capsys.readouterr()
    assert train_command(command) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"first: is done already, {tmp_path}/elsewhere/first/report.html\nlast: ")
    assert "\nlast: 8 steps" in out and "\nlast: goes on after step 5\n" in out
    assert train_command(command) == 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "first: is done already",
        "last: is done already",
    ]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("where", "goes_on"), [("after a step", 10), ("within a checkpoint", 10)])
def test_after_sigkill_nothing_stands_twice_and_nothing_is_left(
    whole: Path, tiny_run: Path, capsys: pytest.CaptureFixture, where: str, goes_on: int
) -> None:
    killed(tiny_run, 11, where, "--name=parts", "--resume=auto")
    folder = tiny_run.parent / "runs" / "parts"
    assert [row["step"] for row in rows(folder)][-1] == "11" and (folder / "lock").exists()
    drafts = [path.name for path in folder.rglob(".*.draft")]
    assert drafts == ([".last.ckpt.draft"] if where == "within a checkpoint" else [])
    assert train_command(["--config", str(tiny_run), "--name=parts", "--resume=auto"]) == 0
    assert f"parts: goes on after step {goes_on}\n" in capsys.readouterr().out
    as_one(whole, folder)
    assert sorted(path.name for path in folder.rglob("*")) == sorted(path.name for path in whole.rglob("*"))


class TestDamage:
    """The newest checkpoint cannot be read: the one before it takes its place, and the run ends as it would have."""

    @pytest.mark.parametrize("harm", ["cut", "another byte", "gone", "another run's"])
    def test_the_last_but_one_takes_its_place(
        self, whole: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, harm: str
    ) -> None:
        interrupted(monkeypatch, 9, tiny_run, name="parts")
        folder = tiny_run.parent / "runs" / "parts"
        path = folder / "checkpoints" / "last.ckpt"
        content = path.read_bytes()
        assert [read_checkpoint(p)["global_step"] for p in (previous_path(path), path)] == [8, 9]
        if harm == "cut":
            path.write_bytes(content[:-1000])
        elif harm == "another byte":
            tensor = max(weights(folder).values(), key=torch.numel)
            at = content.index(tensor.numpy().tobytes()) + 5
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        elif harm == "gone":
            path.unlink()
        else:
            saved = checkpoint(folder)
            saved["origin"] = saved["origin"] | {"models": {"teacher": "0"}}
            torch.save(saved, path)
            with pytest.raises(ConfigError, match="teacher.model: is not the model that"):
                run(tiny_run, name="parts", resume=True)
            return
        capsys.readouterr()
        assert train_command(["--config", str(tiny_run), "--name=parts", "--resume"]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if " is damaged (" in line or "goes on" in line]
        told = [f"parts: {path} is damaged (", "); last.previous.ckpt takes its place"]
        assert lines[-1] == "parts: goes on after step 8" and len(lines) == 2 - (harm == "gone")
        assert harm == "gone" or (lines[0].startswith(told[0]) and lines[0].endswith(told[1]))
        as_one(whole, folder)

    def test_if_both_are_damaged_it_is_told_and_nothing_is_written(
        self, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        interrupted(monkeypatch, 3, tiny_run)
        path = tiny_run.parent / "runs" / "tiny" / "checkpoints" / "last.ckpt"
        for file in (path, previous_path(path)):
            file.write_bytes(file.read_bytes()[:99])
        capsys.readouterr()
        refused(
            capsys, ["--config", str(tiny_run), "--resume=auto"], f"{previous_path(path)} is damaged (File is not a zip"
        )
        assert {file.stat().st_size for file in path.parent.glob("last*")} == {99}

    @pytest.mark.parametrize(
        "saved", [{"state_dict": {}}, [1, 2], {"global_step": 3, "callbacks": {"BestCheckpoint": None}}]
    )
    def test_a_checkpoint_of_something_else_is_told(
        self, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, saved: object
    ) -> None:
        interrupted(monkeypatch, 1, tiny_run)
        path = tiny_run.parent / "runs" / "tiny" / "checkpoints" / "last.ckpt"
        torch.save(saved, path)
        with pytest.raises(ConfigError, match=r"name: .*last.ckpt is no checkpoint of a run of this version"):
            run(tiny_run, resume="auto")

    @pytest.mark.parametrize("text", ["", "task: {name", "seed: 0\0\0\0\0", "\x00" * 64, "- a\n"])
    def test_a_config_that_was_written_by_half_is_no_obstacle_before_the_first_checkpoint(
        self, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        folder = tiny_run.parent / "runs" / "tiny"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(text)
        interrupted(monkeypatch, 1, tiny_run, resume="auto")
        config = folder / "config.yaml"
        assert config.read_text().startswith("imports:")
        config.write_text(text)
        with pytest.raises(ConfigError, match=r"config.yaml is damaged; write it anew with --print_config"):
            run(tiny_run, resume="auto")

    def test_a_checkpoint_of_a_run_that_begins_anew_is_not_taken_for_its_own(
        self, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        interrupted(monkeypatch, 16, tiny_run)
        folder = tiny_run.parent / "runs" / "tiny" / "checkpoints"
        assert (folder / "best.ckpt").exists()
        for path in folder.glob("last*"):
            path.unlink()
        interrupted(monkeypatch, 1, tiny_run, resume="auto")
        assert sorted(path.name for path in folder.iterdir()) == ["last.ckpt"]
        assert [row["step"] for row in read_rows(folder.parent / "metrics.csv")] == [0]


def test_metrics_begin_with_the_rows_that_the_checkpoint_knows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = MetricsCSV(path, ["lr", "val/accuracy"])
    table.start(0)
    for step, row in ((0, {"lr": 0.5}), (1, {"lr": 0.25}), (2, {"val/accuracy": 1.0}), (2, {"lr": 0.125})):
        table.log_metrics(row, step)
    assert table.rows == 4
    with path.open("a") as file:
        file.write("3,0.0")  # what a full disk left of a row
    again = MetricsCSV(path, ["lr", "val/accuracy", "new"])
    again.start(3)
    again.log_metrics({"lr": 0.125, "new": 1.0}, 2)
    empty = {"lr": None, "val/accuracy": None, "new": None}
    assert read_rows(path) == [
        empty | row
        for row in (
            {"step": 0, "lr": 0.5},
            {"step": 1, "lr": 0.25},
            {"step": 2, "val/accuracy": 1.0},
            {"step": 2, "lr": 0.125, "new": 1.0},
        )
    ]


def test_the_report_is_there_when_the_page_is(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the report the run counts as done, so it comes last."""

    def write(report: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("distill.reporting.report.Report.write", write)
        run(tiny_run)
    folder = tiny_run.parent / "runs" / "tiny"
    assert (folder / "report.html").exists() and not (folder / "report.json").exists()
    report = run(tiny_run, resume="auto")
    assert json.loads((folder / "report.json").read_text())["name"] == report.name == "tiny"
    assert run(tiny_run, resume="auto") is None
