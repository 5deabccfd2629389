"""The metrics of a task against scikit-learn's and scipy's, over several batches."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from distill.tasks.classes import Classes
from distill.tasks.kinds.texts import Classification, Regression
from distill.tasks.task import Task


def measured(task: Task, logits: torch.Tensor, labels: torch.Tensor, batch: int = 17) -> dict[str, float]:
    """The metrics after batches of unequal size."""
    task.classes = Classes([str(i) for i in range(logits.shape[-1])])
    metrics = task.metrics()
    for part, true in zip(logits.split(batch), labels.split(batch), strict=True):
        task.update_metrics(metrics, part, {"input_ids": true, "labels": true})
    return {name: float(value) for name, value in metrics.compute().items()}


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classification_as_sklearn_has_it(classes: int) -> None:
    draw = torch.Generator().manual_seed(classes)
    labels = torch.randint(classes, (100,), generator=draw)
    logits = torch.randn(100, classes, generator=draw) + torch.nn.functional.one_hot(labels, classes)
    scores, true, guess = (
        measured(Classification(data="x"), logits, labels),
        labels.numpy(),
        logits.numpy().argmax(-1),
    )
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, guess), abs=1e-6)
    assert scores["matthews"] == pytest.approx(matthews_corrcoef(true, guess), abs=1e-6)
    wanted = f1_score(true, guess) if classes == 2 else f1_score(true, guess, average="macro")
    assert scores["f1"] == pytest.approx(wanted, abs=1e-6)


def test_f1_of_two_classes_is_that_of_class_one() -> None:
    labels, guess = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 0, 0, 1, 1, 0])
    scores = measured(Classification(data="x"), torch.nn.functional.one_hot(guess, 2).float(), labels)
    assert scores["f1"] == pytest.approx(0.5), "not 0.75, the share of right ones, nor the mean over both classes"


def test_always_the_same_class_is_worth_nothing_by_matthews() -> None:
    labels = torch.tensor([0, 1, 1, 1])
    scores = measured(Classification(data="x"), torch.tensor([[0.0, 1.0]]).repeat(4, 1), labels)
    assert (scores["accuracy"], scores["matthews"]) == (0.75, 0.0)


def test_regression_as_scipy_has_it() -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(6, (100,), generator=draw).float()  # with ties
    logits = 0.5 * labels[:, None].exp() + torch.randn(100, 1, generator=draw)
    scores, guess = measured(Regression(data="x"), logits, labels), logits[:, 0].double().numpy()
    assert scores["pearson"] == pytest.approx(pearsonr(guess, labels.double().numpy())[0], abs=1e-4)
    assert scores["spearman"] == pytest.approx(spearmanr(guess, labels.numpy())[0], abs=1e-4)
    assert abs(scores["pearson"] - scores["spearman"]) > 0.05, "the data tell the two apart"


def test_half_precision_is_ranked_in_single() -> None:
    prediction = Regression(data="x").predictions(torch.tensor([[1.5]], dtype=torch.bfloat16), {})
    assert prediction.dtype == torch.float32 and prediction.shape == (1,)


def test_the_main_metric_is_the_one_that_was_chosen() -> None:
    assert (
        Classification(data="x").main_metric == "accuracy"
        and Classification(data="x", metric="matthews").main_metric == "matthews"
    )
    assert (
        Regression(data="x").main_metric == "spearman"
        and Regression(data="x", metric="pearson").main_metric == "pearson"
    )
    for task, labels in ((Classification(data="x"), 3), (Regression(data="x"), 1)):
        task.classes = Classes([str(i) for i in range(labels)])
        assert task.main_metric in task.metrics()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 0}, "batch_size: must be at least 1, not 0"),
        ({"max_length": -1}, "max_length: must be at least 1"),
        ({"max_train_samples": 0}, "max_train_samples: must be at least 1"),
        ({"text": []}, "text: one column or two, not 0"),
    ],
)
def test_what_no_task_can_be(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classification(data="x", **given)


def test_predictions_are_the_likeliest_class() -> None:
    logits = torch.tensor([[0.1, 0.9, 0.0], [2.0, -1.0, 1.0]])
    batch = {"input_ids": logits, "labels": torch.tensor([0, 0])}
    assert np.array_equal(Classification(data="x").predictions(logits, batch), [1, 0])
