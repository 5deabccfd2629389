"""The score of a model beside the baseline, against numbers computed by hand."""

import math

import pytest
import torch
from transformers import AutoTokenizer

from distill.data import prepare_data
from distill.data.batches import Collator
from distill.evaluation import baseline
from distill.evaluation.baseline import _sample_rows, _score, _token_losses, baseline_metrics, score_against_baseline
from distill.tasks.kinds.language.causal import CausalLM
from distill.tasks.kinds.spans import QuestionAnswering
from distill.tasks.kinds.texts import Regression
from tests.helpers.worlds import save_data, save_teacher, three_classes, three_labels


def likely(classes: list[int], count: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), count).float()


def test_accuracy_beside_the_most_frequent_class():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    assert _score(three_classes(), likely([0, 0, 0, 0, 1, 1, 2, 2, 2, 1]), labels) == ("accuracy", 0.9, 0.4, False)


@pytest.mark.parametrize(("right", "rows", "worse"), [(1, 24, True), (0, 24, True), (10, 24, False), (0, 4, False)])
def test_worse_is_more_than_chance_explains(right, rows, worse):
    """Three standard errors below a half: 0.19 of 24 rows, below nothing of 4."""
    labels = torch.tensor([0, 1] * (rows // 2))
    guesses = [int(label) if i < right else 1 - int(label) for i, label in enumerate(labels)]
    score = _score(three_classes(), likely(guesses), labels)
    assert score == ("accuracy", pytest.approx(right / rows), 0.5, worse)


def test_correlation_beside_a_constant():
    task, labels = Regression(data="x"), torch.linspace(0, 5, 50)
    metric, value, against, worse = _score(task, labels[:, None] * 2 - 7, labels)
    assert (metric, against, worse) == ("pearson", 0.0, False) and value == pytest.approx(1.0)
    assert _score(task, -labels[:, None], labels)[3], "upside down"
    assert _score(task, torch.ones(50, 1), labels)[1:] == (0.0, 0.0, False), "a constant has no correlation"


def test_perplexity_beside_the_frequencies_of_tokens():
    labels = torch.tensor([0, 0, 1, 2])
    _, value, against, worse = _score(CausalLM(data="x"), _token_losses(torch.zeros(4, 8), labels), labels)
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert value == pytest.approx(8.0) and against == pytest.approx(math.exp(entropy)) and not worse


def test_average_precision_beside_any_order_of_rows():
    labels = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
    logits = torch.stack([torch.zeros(4, 3), labels * 2.0 - 1], -1)
    score = _score(three_labels(), logits.flatten(0, 1), labels.flatten())
    assert score == ("mAP", 1.0, 0.5, False), "a label that no row has does not count"


def test_several_labels_beside_the_same_labels_for_all_rows():
    """Label a holds for three rows of four: for all it is 2 * 3 / (4 + 5) of micro F1."""
    labels = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]]
    batches = [{"input_ids": torch.zeros(2, 1), "labels": torch.tensor(part)} for part in (labels[:2], labels[2:])]
    assert baseline_metrics(three_labels(), batches) == {"f1_micro": pytest.approx(2 * 3 / (4 + 5))}
    by_map = baseline_metrics(three_labels(metric="mAP"), batches)
    assert by_map == {"mAP": pytest.approx((3 / 4 + 1 / 4 + 1 / 4) / 3)}


def test_a_sample_is_spread_over_all_lengths(monkeypatch):
    monkeypatch.setattr(baseline, "MAX_ROWS", 10)
    assert _sample_rows(list(range(100)), [5] * 100) == list(range(0, 100, 10))
    assert _sample_rows(list(range(7)), [5] * 7) == list(range(7))
    monkeypatch.setattr(baseline, "MAX_TOKENS", 1000)
    assert len(_sample_rows(list(range(100)), [500] * 100)) == 2
    assert _sample_rows([3], [5, 5, 5, 9999]) == [3]


def test_a_language_model_is_scored_on_its_own_data(tmp_path):
    save_data("causal_lm", tmp_path)
    model = save_teacher("causal_lm", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    task = CausalLM(data=str(tmp_path), max_length=32, batch_size=8)
    rows = prepare_data(task, tokenizer)["validation"].remove_columns("row")
    (score,) = score_against_baseline(model, task, rows, Collator(tokenizer), "cpu")
    assert score.metric == "perplexity" and score.rows == score.of_rows == len(rows)
    assert score.useless and not score.worse, "it was never trained"


def test_places_in_texts_of_many_lengths_have_no_baseline(tmp_path):
    save_data("question_answering", tmp_path)
    model = save_teacher("question_answering", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    task = QuestionAnswering(data=str(tmp_path), max_length=32, batch_size=1)
    rows = prepare_data(task, tokenizer)["validation"].remove_columns("row")
    assert len(set(rows["length"])) > 1, "batches of one row are of different widths"
    assert score_against_baseline(model, task, rows, Collator(tokenizer, finalize=task.finalize_batch), "cpu") == []
