"""Quality by class as scikit-learn has it, and the rows that changed."""

import pytest
import torch
from datasets import Dataset
from sklearn.metrics import precision_recall_fscore_support

from distill.evaluation.deployed import DeployedStudent
from distill.evaluation.measure import EvalResult
from distill.reporting import details
from distill.reporting.details import changed_rows, class_quality, page_details
from distill.tasks.classes import Classes
from distill.tasks.kinds.texts import Classification, Regression
from tests.helpers.worlds import three_labels


def test_quality_by_class_as_scikit_learn_has_it():
    generator = torch.Generator().manual_seed(0)
    labels, predictions = (torch.randint(3, (60,), generator=generator) for _ in range(2))
    found = class_quality(EvalResult({}, predictions, None, labels), ["a", "b", "c"])
    expected = precision_recall_fscore_support(labels, predictions)
    for key, values in zip(("precision", "recall", "f1", "rows"), expected, strict=True):
        assert [row[key] for row in found] == pytest.approx(list(values)), key


def test_a_class_without_rows_has_no_quality():
    (_, found) = class_quality(EvalResult({}, torch.tensor([0]), None, torch.tensor([0])), ["a", "b"])
    assert found == {"name": "b", "rows": 0, "precision": None, "recall": None, "f1": None}


def results(count: int, changed: int) -> dict[str, EvalResult]:
    predictions = torch.zeros(count, dtype=torch.long)
    other = torch.cat([torch.ones(changed, dtype=torch.long), predictions[changed:]])
    return {name: EvalResult({}, part, torch.full((count,), 0.9)) for name, part in
            (("teacher", predictions), ("student", other))}  # fmt: skip


@pytest.mark.parametrize(("changed", "shown"), [(3, 12), (20, 20), (300, 150)])
def test_all_rows_that_changed_are_shown_up_to_a_limit(changed: int, shown: int):
    task = Classification(data="x")
    task.texts, task.classes = ["text"], Classes(["bad", "good"], feature=["bad", "good"])
    task.validation = Dataset.from_list([{"text": str(i), "label": 0} for i in range(400)])
    found = changed_rows(task, results(400, changed), list(range(400)))
    assert (found["changed"], found["rows"], len(found["examples"])) == (changed, 400, shown)
    differ = [example["teacher"] != example["student"] for example in found["examples"]]
    assert differ == [True] * min(changed, shown) + [False] * max(0, shown - changed)


def test_of_numbers_the_largest_differences_are_shown():
    task = Regression(data="x")
    task.texts, task.validation = ["text"], Dataset.from_list([{"text": str(i), "label": 0.0} for i in range(40)])
    models = {"teacher": EvalResult({}, torch.zeros(40), None), "student": EvalResult({}, torch.arange(40.0), None)}
    found = changed_rows(task, models, list(range(40)))
    assert [example["text"] for example in found["examples"][:2]] == ["39", "38"]
    assert len(found["examples"]) == details.MIN_EXAMPLES and "changed" not in found


def test_each_of_several_labels_has_its_quality_as_scikit_learn_has_it():
    generator = torch.Generator().manual_seed(0)
    labels, predictions = (torch.randint(2, (60, 3), generator=generator) for _ in range(2))
    found = class_quality(EvalResult({}, predictions, None, labels), ["a", "b", "c"])
    expected = precision_recall_fscore_support(labels, predictions)
    for key, values in zip(("precision", "recall", "f1", "rows"), expected, strict=True):
        assert [row[key] for row in found] == pytest.approx(list(values)), key


def test_a_row_of_several_labels_has_changed_if_one_of_them_has():
    task = three_labels(label=["a", "b", "c"])
    task.texts = ["text"]
    rows = [{"text": str(i), "a": 1, "b": 0, "c": i % 2} for i in range(20)]
    task.validation = Dataset.from_list(rows)
    labels = torch.tensor([[row["a"], row["b"], row["c"]] for row in rows])
    other, sure = labels.clone(), torch.full((20, 3), 0.9)
    other[4, 1] = other[7, 0] = other[7, 1] = 1
    other[7, 0] = 0
    less_sure = sure.clone()
    less_sure[4] = torch.tensor([0.9, 0.6, 0.5])
    models = {"teacher": EvalResult({}, labels, sure, labels), "student": EvalResult({}, other, less_sure, labels)}
    details = page_details(
        task, models, list(range(20)), DeployedStudent(None, None, models["student"], {}, [], [], ""), []
    )
    assert "agreement" not in details and (details["changed"], details["rows"]) == (2, 20)
    first, second = details["examples"][:2]
    assert (first["text"], first["label"], first["teacher"], first["student"]) == ("7", "a, c", "a, c", "b, c")
    assert (second["text"], second["student"]) == ("4", "a, b")
    assert first["student_probability"] == pytest.approx(0.9**3) and second["student_probability"] == pytest.approx(
        0.27
    )
    assert details["calibration"]["teacher"]["error"] == pytest.approx(0.1)
