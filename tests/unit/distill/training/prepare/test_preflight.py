"""The look before the first step: what it says, where it is kept, and which teacher stops a run."""

import json

import pytest

from distill import run
from distill.config.errors import ConfigError
from tests.helpers.fitted import LEARNT, NAMES, planned, save_data, save_fitted
from tests.helpers.runs import train_command


def table(made) -> str:
    return made.text("x")


def test_the_table_says_what_was_read_and_joined(folder):
    made, _ = planned(folder, "turned")
    text = table(made)
    for line in (
        f"train: {folder}/data/train.jsonl (jsonl): 96 rows, 96 kept",
        "columns: text (text), label (label)",
        "class 'POSITIVE': 48 train, 12 validation",
        "labels: negative → Negative , positive → POSITIVE",
        "outputs of teacher: POSITIVE → POSITIVE, Negative  → Negative ",
        "teacher: accuracy 1 on 24 validation rows, the most frequent class 0.5",
    ):
        assert f"\n  {line}\n" in text, text
    assert "x: 12 steps, 12 in an epoch" in text
    facts = made.preflight.to_json()
    assert facts["outputs"]["teacher"] == {"POSITIVE": "POSITIVE", "Negative ": "Negative "}
    assert facts["scores"]["teacher"][0]["baseline"] == 0.5
    assert json.loads(json.dumps(facts)) == facts


def test_what_a_teacher_calls_its_outputs_is_shown(folder):
    labels = {"sad": "0", "happy": "1"}
    made, _ = planned(folder, "unnamed", **{"task.data": str(folder / "moods"), "task.labels": labels})
    assert "outputs of teacher: LABEL_0 → sad, LABEL_1 → happy" in table(made)


@pytest.fixture(scope="module")
def wrong(folder):
    """A teacher whose names are the wrong way round: nothing but its score can tell."""
    save_fitted(folder / "wrong", NAMES, [1, 0])
    return folder


def test_a_teacher_that_does_worse_than_the_most_frequent_class_stops_the_run(wrong):
    with pytest.raises(ConfigError, match="teacher.model: it does worse than a constant prediction: accuracy 0 on 24"):
        planned(wrong, "wrong")
    made, _ = planned(wrong, "wrong", teacher={"model": str(wrong / "wrong"), "check": False})
    assert any(
        "teacher is no better than a constant prediction: accuracy 0" in line for line in made.preflight.warnings
    )


def test_of_several_teachers_each_is_scored(wrong):
    members = {"good": str(wrong / "named"), "bad": {"model": str(wrong / "wrong"), "check": False}}
    made, _ = planned(wrong, "named", teacher={"members": members})
    assert [made.preflight.scores[name][0].value for name in members] == [1.0, 0.0]
    members["bad"]["check"] = True
    with pytest.raises(ConfigError, match="teacher.members.bad.model: it does worse"):
        planned(wrong, "named", teacher={"members": members})


def test_check_prints_the_table_and_writes_nothing(folder, capsys, monkeypatch):
    planned(folder, "named")  # leaves x.yaml there
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert train_command(["--config", "x.yaml", "--check"]) == 0
    out, err = capsys.readouterr()
    assert "x: what it reads" in out and "12 steps" in out
    assert sorted(folder.rglob("*")) == before
    assert train_command(["--config", "x.yaml", "--check", "--task.text=nothing"]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and "task.text: there is no column 'nothing'" in err and out == ""
    assert sorted(folder.rglob("*")) == before


def test_check_of_several_runs_shows_each(folder, capsys, monkeypatch):
    planned(folder, "named")
    monkeypatch.chdir(folder)
    first = (folder / "x.yaml").read_text()
    (folder / "two.yaml").write_text(
        f"name: one\n{first}---\nname: two\n{first.replace(str(folder / 'named'), str(folder / 'runs/one'))}"
    )
    assert train_command(["--config", "two.yaml", "--check"]) == 0
    out, _ = capsys.readouterr()
    assert "one: what it reads" in out and "two: what it reads" in out
    assert out.count("validation rows, the most frequent class") == 1, "the second teacher does not exist yet"
    assert not (folder / "runs").exists()


def test_the_report_keeps_it_and_the_page_shows_it(folder, tmp_path):
    planned(folder, "named")
    report = run(folder / "x.yaml", output=str(tmp_path))
    facts = json.loads((tmp_path / "x" / "report.json").read_text())["preflight"]
    assert facts["data"][""]["classes"]["positive"] == {"train": 48, "validation": 12}
    assert facts["lines"] and report.preflight == facts
    page = (tmp_path / "x" / "report.html").read_text()
    assert "Before the first step" in page and "48 train, 12 validation" in page


def test_several_tasks_are_told_apart(folder):
    save_data(folder, "other", NAMES)
    parts = {name: {"name": "classification", "data": str(folder / name), "text": "text"} for name in ("data", "other")}
    save_fitted(folder / "joint", ["other/negative", "other/positive", "data/negative", "data/positive"], [2, 3])
    made, task = planned(folder, "joint", task={"name": "multi_task", "tasks": parts, "batch_size": 8})
    text = table(made)
    assert "data: class 'negative': 48 train" in text and "other: class 'negative'" in text
    assert task.classes.names == ["data/negative", "data/positive", "other/negative", "other/positive"]
    assert "teacher: data: accuracy" in text
    assert [score.task for score in made.preflight.scores["teacher"]] == ["data", "other"]
    assert made.preflight.scores["teacher"][0].value > LEARNT
