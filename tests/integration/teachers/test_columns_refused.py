"""Mistakes in the columns of a teacher, each refused in one line before the first step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distill import run
from distill.config.errors import ConfigError
from tests.helpers.repositories import save_tiny_bert

TEXT = """\
task: {{name: classification, data: {folder}/data, batch_size: 4}}
teacher: {teacher}
student: {folder}/student
losses:
  soft: {loss}
trainer: {{max_epochs: 1, accelerator: cpu}}
output: {folder}/runs
"""
HEAD = "sentence,label,p_negative,p_positive,score"
ROWS = [
    f"a {word} film,{i % 2},{0.9 - 0.8 * (i % 2):.1f},{0.1 + 0.8 * (i % 2):.1f},{i}" for i, word in enumerate("abcdef")
]
TEACHER = "{columns: [p_negative, p_positive]}"
LOGITS = "{kind: Logits}"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    save_tiny_bert(folder, layers=1, hidden=24, heads=4, labels=["LABEL_0", "LABEL_1"])
    return folder


def refusal(
    folder: Path, model: Path, rows: list[str], columns: str, loss: str, labels: str = "01", **given: object
) -> str:
    (folder / "data").mkdir()
    (folder / "student").symlink_to(model)
    (folder / "data" / "train.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    (folder / "data" / "validation.csv").write_text(
        "\n".join(["sentence,label", *(f"a film,{label}" for label in labels)]) + "\n"
    )
    (folder / "x.yaml").write_text(TEXT.format(folder=folder, teacher=columns, loss=loss))
    with pytest.raises(ConfigError) as caught:
        run(folder / "x.yaml", **given)
    return str(caught.value)


def changed(*cells: str, line: int = 3) -> list[str]:
    """The rows with other cells of the teacher in a line of the file."""
    rows = list(ROWS)
    rows[line - 2] = ",".join([*rows[line - 2].split(",")[:2], *cells, "0"])
    return rows


@pytest.mark.parametrize(
    ("rows", "teacher", "message"),
    [
        (changed("high", "0.1"), TEACHER, "task.data: .*train.csv line 3: 'p_negative' is 'high', not a number"),
        (changed("inf", "0.1"), TEACHER, "line 3: 'p_negative' is inf, not a number"),
        (changed("-0.1", "1.1"), TEACHER, "line 3: 'p_negative' is -0.1; a probability is not negative"),
        (changed("0.5", "0.4"), TEACHER, r"line 3: the probabilities sum to 0\.9, not 1"),
        (changed("", "0.4"), TEACHER, "line 3: 'p_negative' is empty, and not all columns of the teacher are; a row"),
        (
            [*changed("x", "0.1")[:4], *changed("0.5", "0.4", line=6)[4:]],
            TEACHER,
            "line 3: 'p_negative' is 'x', not a number; line 6: the probabilities sum to 0.9, not 1",
        ),
        (
            ROWS,
            "{columns: [p_negatve, p_positive]}",
            "task.data: .*train.csv has no column 'p_negatve' of the teacher .*did you mean 'p_negative'",
        ),
        (
            changed("", ""),  # then the other columns are of texts, too
            "{columns: [p_negatve, p_positive]}",
            "task.data: .*train.csv has no column 'p_negatve' of the teacher .*did you mean 'p_negative'",
        ),
        (
            ROWS,
            "{columns: [p_negative, p_positive, score]}",
            r"x.yaml:2: teacher.columns: there are 3 \(p_negative, p_positive, score\), and 2 classes \(LABEL_0,",
        ),
        (
            ROWS,
            "{columns: {0: p_negative, 2: p_positive}}",
            "teacher.columns: there is no label '2'; there are LABEL_0",
        ),
        (ROWS, "{columns: {0: p_negative}}", "teacher.columns: the label 'LABEL_1' has no column"),
        (ROWS, "{columns: {0: p_negative, LABEL_0: p_positive}}", "'p_negative' and 'p_positive' are of one class"),
        (ROWS, "{columns: [p_negative, p_negative]}", "teacher.columns: 'p_negative' is named twice"),
        (ROWS, "{columns: []}", "teacher.columns: name one column for each class"),
        (ROWS, "{columns: [p_negative, p_positive], temperature: 0}", "teacher.temperature: must be above 0, not 0"),
        (
            [",".join([*row.split(",")[:2], "", "", "0"]) for row in ROWS],
            TEACHER,
            "teacher.columns: are empty in all training rows",
        ),
    ],
)
def test_of_the_columns(tmp_path: Path, student: Path, rows: list[str], teacher: str, message: str) -> None:
    found = refusal(tmp_path, student, rows, teacher, LOGITS)
    assert re.search(message, found), found


def test_labels_that_are_names_have_no_order(tmp_path: Path, student: Path) -> None:
    rows = [row.replace(",0,", ",b,").replace(",1,", ",g,") for row in ROWS]
    found = refusal(tmp_path, student, rows, TEACHER, LOGITS, labels="bg")
    assert "teacher.columns: the labels are names and have no order; write columns: {b: COLUMN, g: COLUMN}" in found


def test_columns_in_the_wrong_order_do_worse_than_a_constant(tmp_path: Path, student: Path) -> None:
    rows = [f"a {i} film,{i % 2},{0.9 - 0.8 * (i % 2):.1f},{0.1 + 0.8 * (i % 2):.1f},{i}" for i in range(30)]
    found = refusal(tmp_path, student, rows, "{columns: [p_positive, p_negative]}", LOGITS)
    assert "teacher.columns: it does worse than a constant prediction: accuracy 0 on 30 training rows" in found


@pytest.mark.parametrize("kind", ["ReverseKL", "LogitsMSE", "SkewReverseKL, alpha: 0.0"])
def test_losses_that_are_infinite_at_a_probability_of_zero(tmp_path: Path, student: Path, kind: str) -> None:
    found = refusal(tmp_path, student, changed("", ""), TEACHER, f"{{kind: {kind}}}")
    assert "losses.soft.kind: is infinite where the teacher's probability of a class is 0, and 1 of 6" in found


@pytest.mark.parametrize(
    ("loss", "given", "message"),
    [
        ("{kind: HiddenMSE}", {}, "losses.soft: compares layers, and outputs alone are recorded of the teacher"),
        ("{kind: AttentionScores}", {}, "losses.soft: compares layers"),
        (LOGITS, {"task.augment": {"kind": "Masking"}}, "teacher: its outputs are recorded for the texts of"),
        (LOGITS, {"task.name": "masked_lm"}, "teacher: one distribution or number is recorded for a text; only"),
        (LOGITS, {"student": {"kind": "Transformer", "layers": 1}}, "student: .*teacher"),
        (LOGITS, {"student": {"kind": "LSTM"}}, "student: .*teacher"),
        (LOGITS, {"replace": 0.5}, "replace: there is no teacher whose blocks"),
        (
            LOGITS,
            {"teacher": {"members": {"a": {"columns": ["x"]}, "b": "y"}}},
            "teacher.members.a.columns: .*no 'columns'",
        ),
    ],
)
def test_what_columns_cannot_give(tmp_path: Path, student: Path, loss: str, given: dict, message: str) -> None:
    found = refusal(tmp_path, student, ROWS, TEACHER, loss, **given)
    assert re.search(message, found), found


def test_an_unlabelled_row_needs_them(tmp_path: Path, student: Path) -> None:
    (tmp_path / "more.csv").write_text("sentence,p_negative,p_positive\na play,0.5,0.5\na song,,\n")
    found = refusal(tmp_path, student, ROWS, TEACHER, LOGITS, **{"task.unlabelled": str(tmp_path / "more.csv")})
    assert "more.csv line 3: p_negative, p_positive are empty, and the row has no label either" in found
