"""Classes of validation that the student never predicts are named in one warning."""

import torch

from distill.evaluation.measure import EvalResult
from distill.reporting.report_warnings import classes_never_predicted, constant_predictions
from distill.tasks.classes import Classes
from distill.tasks.kinds.texts import Regression
from tests.helpers.worlds import three_classes, three_labels


def labelled(labels: list[int], predictions: list[int]) -> EvalResult:
    return EvalResult({}, torch.tensor(predictions), None, torch.tensor(labels))


def test_classes_that_the_student_never_predicts():
    """Of three labels b the teacher finds two, of one c it finds one; the student says a."""
    task, labels = three_classes(), [0, 0, 1, 1, 1, 2]
    teacher, student = labelled(labels, [0, 1, 1, 1, 0, 2]), labelled(labels, [0, 0, 0, 0, 0, 0])
    assert classes_never_predicted(task, student, teacher) == [
        "the student never predicts the classes 'b' (3 labels in validation, recall of the teacher 0.67), "
        "'c' (1 label in validation, recall of the teacher 1.00)"
    ]
    found = labelled(labels, [0, 0, 0, 0, 0, 2])
    assert classes_never_predicted(task, found, None) == [
        "the student never predicts the class 'b' (3 labels in validation)"
    ]
    blind = labelled(labels, [0, 0, 0, 0, 0, 2])
    assert classes_never_predicted(task, student, blind) == [
        "the student never predicts the class 'c' (1 label in validation, recall of the teacher 1.00)"
    ], "what the teacher never predicts cannot be learnt from it"
    assert classes_never_predicted(task, labelled([0, 1], [1, 0]), None) == [], "a class without labels"
    assert classes_never_predicted(Regression(data="none"), EvalResult({}, torch.zeros(2), None), None) == []


def test_many_classes_that_are_never_predicted_take_one_line():
    task = three_classes()
    task.classes = Classes([f"class {i}" for i in range(30)])
    labels = [i for i in range(30) for _ in range(i + 1)]
    (warning,) = classes_never_predicted(task, labelled(labels, [0] * len(labels)), None)
    assert warning.count("labels in validation") == 10 and warning.endswith(", 19 more")
    assert warning.startswith("the student never predicts the classes 'class 29' (30 labels in validation), 'class 28'")


def test_of_several_labels_those_that_the_student_never_predicts():
    labels = [[1, 1, 0], [1, 0, 0], [0, 1, 0]]
    teacher, student = labelled(labels, [[1, 1, 0], [1, 0, 0], [0, 0, 0]]), labelled(labels, [[1, 0, 0]] * 3)
    assert classes_never_predicted(three_labels(), student, teacher) == [
        "the student never predicts the class 'b' (2 labels in validation, recall of the teacher 0.50)"
    ]
    batch = {"input_ids": torch.zeros(3, 1).long(), "labels": torch.tensor(labels)}
    assert constant_predictions(three_labels(), student, [batch]) == [
        "all 3 predictions of the student on validation are the same, 'a'"
    ]
    assert constant_predictions(three_labels(), teacher, [batch]) == []
