"""A run goes on only with the data, models and sizes that it was begun with, compared by their contents."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from distill import run
from distill.config.loader import ConfigError
from tests.helpers.runs import checkpoint, equal, interrupted, train_command, weights


class TestTheSame:
    """What the config only names is compared by its contents."""

    def change(self, folder: Path, what: str) -> None:
        if what == "teacher":
            file = folder / "teacher" / "model.safetensors"
            tensors = load_file(file)
            tensors["classifier.bias"][0] += 0.125
            save_file(tensors, file, {"format": "pt"})
        elif what == "its config":
            file = folder / "teacher" / "config.json"
            file.write_text(file.read_text().replace('"hidden_act": "gelu"', '"hidden_act": "relu"'))
        else:
            split = "validation" if what == "a label" else "train"
            file = folder / "data" / f"{split}.parquet"
            table = parquet.read_table(file)
            records = table.to_pylist()
            if what == "rows removed":
                records = records[8:]
            elif what == "rows exchanged":
                records[:2] = reversed(records[:2])
            elif what == "a word":
                records[3]["sentence"] += " film"
            else:
                records[2]["label"] = 1 - records[2]["label"]
            parquet.write_table(pa.Table.from_pylist(records, table.schema), file)

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("teacher", r"tiny.yaml:2: teacher.model: is not the model that the run in .*/runs/tiny was begun with"),
            ("its config", r"tiny.yaml:2: teacher.model: is not the model that the run in"),
            ("rows removed", r"tiny.yaml:1: task.data: the train rows are not those .* \(64 then, 56 now\)"),
            ("rows exchanged", r"task.data: the train rows .* \(64 as then, with other ids or labels\)"),
            ("a word", r"task.data: the train rows .* \(64 as then, with other ids or labels\)"),
            ("a label", r"task.data: the validation rows .* \(16 as then, with other ids or labels\)"),
        ],
    )
    def test_another_is_refused(
        self, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, what: str, message: str
    ) -> None:
        interrupted(monkeypatch, 5, own / "tiny.yaml")
        before = weights(own / "runs" / "tiny")
        self.change(own, what)
        with pytest.raises(ConfigError, match=message):
            run(own / "tiny.yaml", resume=True)
        capsys.readouterr()
        assert train_command(["--config", str(own / "tiny.yaml"), "--resume=auto"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        assert equal(weights(own / "runs" / "tiny"), before)

    def test_another_start_of_the_student_is_refused(self, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copytree(own / "teacher", own / "start")
        file, given = own / "tiny.yaml", {"student": str(own / "start")}
        file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("student")))
        file.write_text(f"{file.read_text()}\nstudent: {own / 'start'}\n")
        interrupted(monkeypatch, 5, file)
        (own / "teacher").rename(own / "kept")
        self.change_start(own)
        (own / "kept").rename(own / "teacher")
        with pytest.raises(ConfigError, match=r"student.model: is not the model that the run in"):
            run(file, resume=True, **given)

    def change_start(self, own: Path) -> None:
        (own / "start").rename(own / "teacher")
        self.change(own, "teacher")
        (own / "teacher").rename(own / "start")

    def test_a_batch_of_another_size_is_refused(self, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        interrupted(monkeypatch, 5, tiny_run)
        with pytest.raises(ConfigError, match=r"task.batch_size: is not what the run in"):
            run(tiny_run, resume=True, **{"task.batch_size": 4})

    def test_another_version_of_a_library_is_noted(self, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        interrupted(monkeypatch, 5, tiny_run)
        file = tiny_run.parent / "runs" / "tiny" / "checkpoints" / "last.ckpt"
        saved = checkpoint(file.parents[1])
        saved["origin"]["versions"]["torch"] = "1.0"
        torch.save(saved, file)
        report = run(tiny_run, resume=True)
        notes = [note for note in report.notes if note.startswith("begun with torch 1.0, resumed with")]
        assert len(notes) == 1 and torch.__version__ in notes[0]
