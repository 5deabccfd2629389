"""A run of each kind of task, stopped within an epoch and resumed, is the run, bit for bit, with dropout."""

from pathlib import Path

import pytest
import yaml

from tests.helpers.repositories import save_tiny_bert
from tests.helpers.runs import resumes_bit_for_bit
from tests.helpers.worlds import COLUMNS, save_data, save_teacher

HIDDEN = {"kind": "HiddenMSE", "layers": "uniform"}
TASKS = {
    "masked_lm": ({"max_length": 8}, HIDDEN),
    "question_answering": ({"max_length": 32, "augment": {"kind": "Masking", "probability": 0.2}}, HIDDEN),
    "multi_label": ({"max_length": 16, "augment": {"kind": "Masking", "probability": 0.2}}, HIDDEN),
    "seq2seq": ({"max_length": 16}, HIDDEN | {"layers": "random", "stack": "decoder"}),
}


def document(folder: Path, task: dict, hidden: dict) -> Path:
    """The config file of a run, with its teacher in the folder; three steps or more in each of two epochs."""
    losses = {"hidden": hidden, "labels": {"kind": "Labels"}, "logits": {"kind": "Logits"}}
    config = {
        "task": task | {"batch_size": 8},
        "teacher": str(folder / "teacher"),
        "student": {"kind": "Transformer", "layers": 2},
        "losses": losses,
        "optimizer": {"lr": 1e-3},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 1},
        "output": str(folder / "runs"),
    }
    (folder / "x.yaml").write_text(yaml.safe_dump(config))
    return folder / "x.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_resumes_bit_for_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    save_data(name, tmp_path / "data", rows=24)
    save_teacher(name, tmp_path / "teacher")
    given, hidden = TASKS[name]
    task = {"name": name, "data": str(tmp_path / "data")} | COLUMNS.get(name, {}) | given
    resumes_bit_for_bit(monkeypatch, 2, 5, document(tmp_path, task, hidden))


@pytest.mark.slow
def test_several_tasks_resume_bit_for_bit(materials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    save_data("regression", tmp_path / "data", rows=24)
    save_tiny_bert(
        tmp_path / "teacher", layers=4, hidden=32, heads=4, labels=["taste/negative", "taste/positive", "praise"]
    )
    taste = {"name": "classification", "data": str(materials / "data")}
    tasks = {"taste": taste, "praise": {"name": "regression", "data": str(tmp_path / "data")}}
    resumes_bit_for_bit(monkeypatch, 4, 13, document(tmp_path, {"name": "multi_task", "tasks": tasks}, HIDDEN))
