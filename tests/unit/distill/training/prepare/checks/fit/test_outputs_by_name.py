"""Outputs of models and classes of data are joined by name, or refused."""

import pytest
from torch.utils.data import DataLoader

from distill.data.batches import Collator
from distill.evaluation.measure import evaluate_model, torch_predict
from distill.tasks.task import Task
from distill.training.prepare.plan import Plan
from tests.helpers.fitted import LEARNT, NAMES, planned, refused, save_fitted
from tests.helpers.tables import write

ALONE = {"teacher": None, "losses": {"labels": {"kind": "Labels"}}}


def accuracies(made: Plan, task: Task) -> dict[str, float]:
    """On validation, of the teacher and of the student, as the run would measure them."""
    parts = made.parts
    rows = parts.rows["validation"].remove_columns(["length", "row"])
    batches = list(DataLoader(rows, 8, collate_fn=Collator(parts.tokenizer)))
    models = {name: teacher.model for name, teacher in parts.teachers.items()} | {"student": parts.student}
    return {
        name: evaluate_model(task, torch_predict(model), batches).metrics["accuracy"] for name, model in models.items()
    }


@pytest.mark.parametrize(
    ("teacher", "data", "given"),
    [
        ("named", "data", {}),
        ("turned", "data", {}),
        ("unnamed", "numbers", {}),
        ("named", "numbers", {}),
        ("unnamed", "moods", {"task.labels": {"sad": "LABEL_0", "happy": "LABEL_1"}}),
        ("unnamed", "moods", {"task.labels": {"sad": "0", "happy": "1"}}),
        ("turned", "moods", {"task.labels": {"sad": "negative", "happy": "positive"}}),
        ("three", "data", {"task.labels": {"negative": "negative", "positive": "positive"}}),
    ],
)
def test_a_teacher_is_as_good_as_it_is_by_name(folder, teacher, data, given):
    given = {"task.data": str(folder / data)} | given
    made, task = planned(folder, teacher, **given)
    assert accuracies(made, task)["teacher"] > LEARNT
    assert made.parts.student.config.num_labels == (3 if teacher == "three" else 2)


def test_a_student_that_exists_is_as_good_as_it_is_by_name(folder):
    """Beside a teacher of another order, and without one; its names are then those of the run's classes."""
    for given in ({"student": str(folder / "turned")}, {"student": str(folder / "three")}):
        labels = {"task.labels": dict(zip(NAMES, NAMES, strict=True))} if "three" in given["student"] else {}
        assert accuracies(*planned(folder, "named", **ALONE, **given, **labels))["student"] > LEARNT
    made, task = planned(folder, "named", student=str(folder / "turned"))
    assert min(accuracies(made, task).values()) > LEARNT
    assert made.parts.student.config.id2label == {0: "negative", 1: "positive"}


def test_integers_leave_a_student_its_names(folder):
    given = {"student": str(folder / "turned"), "task.data": str(folder / "numbers")} | ALONE
    made, _ = planned(folder, "named", **given)
    assert list(made.parts.student.config.id2label.values()) == ["POSITIVE", "Negative "]


def test_codes_make_as_many_outputs_as_there_are_codes(folder):
    rows = [{"text": f"a {word} film", "label": code} for word in ("good", "bad") for code in range(100, 117)]
    write(folder / "codes.jsonl", rows * 2)
    given = {"task.data": str(folder / "codes.jsonl")} | ALONE
    made, _ = planned(folder, "named", student=str(folder / "named"), **given)
    assert list(made.parts.student.config.id2label.values()) == [str(code) for code in range(100, 117)]


MISFITS = {
    "outputs without names": (
        "unnamed",
        {"task.data": "moods"},
        "2: teacher.model: its outputs are LABEL_0, LABEL_1, the classes of the data happy, sad",
    ),
    "other names": ("named", {"task.data": "moods"}, "are negative, positive, the classes of the data happy, sad"),
    "a subset": ("three", {}, "it has 3 outputs (positive, mixed, negative), the data 2 classes (negative, positive)"),
    "a student's outputs without names": (
        "named",
        {"student": "unnamed"},
        "student: its outputs are LABEL_0, LABEL_1, the classes of the data negative, positive",
    ),
    "a class that labels leaves out": (
        "named",
        {"task.labels": {"negative": "negative"}},
        "task.data: {folder}/data/train.jsonl line 2, 4, 6, 8, 10, 12, 14, 16, 18, 20: 'label' is 'positive', "
        "not one of negative",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("teacher", "given", "message"), MISFITS.values(), ids=MISFITS.keys())
def test_what_nothing_proves_is_refused(folder, teacher, given, message):
    given = {key: str(folder / value) if isinstance(value, str) else value for key, value in given.items()}
    assert message.format(folder=folder) in refused(folder, teacher, **given)


def test_a_teacher_of_several_labels_at_once(folder):
    save_fitted(folder / "several", NAMES, [0, 1], problem_type="multi_label_classification")
    assert "teacher.model: its outputs are labels of which several may hold" in refused(folder, "several")
    message = refused(folder, "named", student=str(folder / "several"))
    assert "student: its outputs are labels of which several may hold" in message
