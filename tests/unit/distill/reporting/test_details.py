"""Quality by class as scikit-learn has it, and the rows that changed."""

import pytest
import torch
from datasets import Dataset
from sklearn.metrics import precision_recall_fscore_support

from distill.evaluation.measure import EvalResult
from distill.reporting import details
from distill.reporting.details import changed_rows, class_quality
from distill.tasks.classes import Classes
from distill.tasks.kinds.texts import Classification, Regression


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
