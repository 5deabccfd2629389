"""Test rows are evaluated once, at the end, and change nothing before it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Features, Value
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill import run
from distill.data import prepare_data
from distill.tasks.kinds.several import MultiTask
from distill.tasks.kinds.texts import Classification
from tests.helpers.repositories import BAD, GOOD, save_tiny_bert, sentences
from tests.helpers.tables import ready, refused, write

CONFIG = """\
task: {name: classification, data: data, text: sentence, label: label, max_length: 32, batch_size: 8}
teacher: {model: teacher, check: false}
student: {kind: Transformer, layers: 1}
losses: {labels: {kind: Labels}, logits: {kind: Logits}}
optimizer: {lr: 1e-3}
trainer: {max_epochs: 2, accelerator: cpu}
display: quiet
"""
TRAIN = [{"text": f"{word} film", "label": i % 2} for i, word in enumerate((GOOD + BAD) * 4)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Two runs by name, ``with`` test rows and ``without``."""
    folders = {}
    for name in ("with", "without"):
        folder = tmp_path_factory.mktemp(name)
        save_tiny_bert(folder / "teacher", layers=2, hidden=24, heads=4, labels=["bad", "good"])
        (folder / "data").mkdir()
        for seed, (split, count) in enumerate({"train": 48, "validation": 24, "test": 50}.items()):
            if split != "test" or name == "with":
                write(folder / "data" / f"{split}.jsonl", sentences(count, seed))
        (folder / "x.yaml").write_text(CONFIG)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            run("x.yaml")
        folders[name] = folder
    return folders


def test_metrics_are_those_of_the_saved_student(runs: dict[str, Path]) -> None:
    folder = runs["with"]
    report = json.loads((folder / "runs" / "x" / "report.json").read_text())
    for name, path in {"student": folder / "runs" / "x" / "student", "teacher": folder / "teacher"}.items():
        model = AutoModelForSequenceClassification.from_pretrained(path).eval()
        tokenizer, right = AutoTokenizer.from_pretrained(path), 0
        rows = [json.loads(line) for line in (folder / "data" / "test.jsonl").read_text().splitlines()]
        for row in rows:
            with torch.no_grad():
                logits = model(**tokenizer(row["sentence"], return_tensors="pt")).logits
            right += int(logits.argmax()) == row["label"]
        accuracy = right / len(rows)
        assert report["test"]["metrics"][name]["accuracy"] == pytest.approx(accuracy)
        low, high = report["test"]["intervals"][name]["accuracy"]
        assert low <= accuracy <= high and high - low < 0.3
    assert report["test"]["rows"] == 50
    low, high = report["test"]["difference"]["accuracy"]
    values = [report["test"]["metrics"][name]["accuracy"] for name in ("student", "teacher")]
    assert low <= values[0] - values[1] <= high


def test_they_change_nothing_else(runs: dict[str, Path]) -> None:
    weights = [load_file(folder / "runs" / "x" / "student" / "model.safetensors") for folder in runs.values()]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    reports = [json.loads((folder / "runs" / "x" / "report.json").read_text()) for folder in runs.values()]
    assert reports[0]["models"]["student"]["metrics"] == reports[1]["models"]["student"]["metrics"]
    assert reports[1]["test"] is None


def test_the_page_and_the_card_show_them(runs: dict[str, Path]) -> None:
    for name, folder in runs.items():
        page = (folder / "runs" / "x" / "report.html").read_text()
        card = (folder / "runs" / "x" / "student" / "README.md").read_text()
        assert ('<h2 id="test">' in page) == ("| 50 test rows |" in card) == (name == "with")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"text": "a film"}], "it has no column 'label'"),
        ([{"text": "a film", "label": -1}], "in all rows 'label' is -1, not one of"),
        ([{"text": "a film", "label": None}], "in all rows 'label' is missing"),
    ],
)
def test_test_rows_without_labels_are_left_out(tmp_path: Path, tokenizer, rows: list[dict], reason: str) -> None:
    write(tmp_path / "train.jsonl", TRAIN)
    write(tmp_path / "test.jsonl", rows * 3)
    task, splits = ready(tmp_path, tokenizer)
    assert set(splits) == {"train", "validation"} and task.test is None
    assert any(f"test.jsonl is not evaluated: {reason}" in note for note in task.notes)
    assert any("is not evaluated" in line for line in task.facts.table_lines())


def test_a_published_test_split_has_no_labels(tmp_path: Path, tokenizer) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    write(tmp_path / "train.parquet", TRAIN, features)
    write(tmp_path / "test.parquet", [{"text": "a film", "label": -1}] * 4, features)
    task, splits = ready(tmp_path, tokenizer)
    assert "test" not in splits and any("is not evaluated" in note for note in task.notes)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": "a film", "label": 0}, {"text": "a film", "label": 2}],
            "test.jsonl line 2: 'label' is 2, not one of",
        ),
        ([{"text": "a film", "label": 0}, {"text": "", "label": 1}], "test.jsonl line 2: 'text' is empty"),
        ([{"text": "a film", "label": 0}, {"text": "a film", "label": -1}], "test.jsonl line 2: 'label' is -1"),
    ],
)
def test_unusable_test_rows_are_refused_with_their_line(
    tmp_path: Path, tokenizer, rows: list[dict], message: str
) -> None:
    write(tmp_path / "train.jsonl", TRAIN)
    write(tmp_path / "test.jsonl", rows)
    assert message in refused(Classification(data=str(tmp_path)), tokenizer)


def test_training_rows_that_are_test_rows_are_counted(tmp_path: Path, tokenizer) -> None:
    write(tmp_path / "train.jsonl", TRAIN)
    write(tmp_path / "test.jsonl", [TRAIN[0], {"text": "a dull film", "label": 1}])
    task, _ = ready(tmp_path, tokenizer)
    kept = sum(row["text"] == TRAIN[0]["text"] for row in TRAIN) - sum(
        row["text"] == TRAIN[0]["text"] for row in task.validation
    )
    assert task.facts.test_duplicates == kept > 0


def test_several_tasks_have_test_rows_if_each_has(tmp_path: Path, tokenizer) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(
            tmp_path / name / "train.jsonl",
            TRAIN if name == "a" else [row | {"label": 0} for row in TRAIN[:8]] + [{"text": "the end", "label": 1}] * 4,
        )
        write(tmp_path / name / "test.jsonl", [{"text": f"{name} film of the end", "label": 1}] * 2)

    def tasks() -> MultiTask:
        return MultiTask(tasks={name: Classification(data=str(tmp_path / name)) for name in ("a", "b")})

    task = tasks()
    rows = prepare_data(task, tokenizer)
    assert list(rows["test"]["task"]) == [0, 0, 1, 1]
    texts = [part.validation["text"][0] for part in task.on_test_rows().parts.values()]
    assert texts == ["a film of the end", "b film of the end"]
    (tmp_path / "b" / "test.jsonl").unlink()
    task = tasks()
    assert "test" not in prepare_data(task, tokenizer)
    assert "no test rows are evaluated: of the tasks only a have them" in task.notes


def test_test_rows_of_one_task_are_not_trained_on_by_another(tmp_path: Path, tokenizer) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "train.jsonl", TRAIN)
        shutil.copy(tmp_path / name / "train.jsonl", tmp_path / name / "validation.jsonl")
        write(
            tmp_path / name / "validation.jsonl",
            [{"text": f"{name} {word}", "label": i} for i, word in enumerate(BAD[:2])],
        )
    write(tmp_path / "b" / "test.jsonl", TRAIN[:1])
    task = MultiTask(tasks={name: Classification(data=str(tmp_path / name)) for name in ("a", "b")})
    rows = prepare_data(task, tokenizer)
    same = sum(row["text"] == TRAIN[0]["text"] for row in TRAIN)
    assert len(rows["train"]) == 2 * len(TRAIN) - same
