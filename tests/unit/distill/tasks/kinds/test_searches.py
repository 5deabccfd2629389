"""The search task: the numbers of queries and passages, labels or none, metrics and intervals in any batches."""

import numpy as np
import pytest
import torch

from distill.data import prepare_data
from distill.data.batches import Collator
from distill.evaluation.intervals import intervals
from distill.evaluation.measure import EvalResult, evaluate_model
from distill.tasks.kinds.searches import Search
from students.recording.second_text import second_text
from tests.helpers.repositories import GOOD, NOUNS
from tests.helpers.tables import write_splits

PAIRS = [(f"the {noun}", f"a {word} {noun}") for noun in NOUNS for word in GOOD[:2]]


def task_of(folder, rows=PAIRS, names=("query", "passage"), **given: object) -> Search:
    return Search(data=write_splits(folder, names, rows), max_length=16, **given)


def evaluated(task: Search, tokenizer, size: int) -> EvalResult:
    """The metrics of a mean of random vectors of words, in batches of a size."""
    rows = prepare_data(task, tokenizer)["validation"].remove_columns("length")
    table = torch.randn(len(tokenizer), 8, generator=torch.Generator().manual_seed(0))

    def predict(batch: dict) -> torch.Tensor:
        return (table[batch["input_ids"]] * batch["attention_mask"][..., None]).sum(1)

    assert second_text(Collator(tokenizer)([rows[0]])) is not None
    starts = range(0, len(rows), size)
    batches = [Collator(tokenizer)([rows[i] for i in range(start, min(start + size, len(rows)))]) for start in starts]
    return evaluate_model(task, predict, batches, resample=True)


def test_the_same_text_has_one_number_and_all_pairs_are_relevant_without_labels(tmp_path, tokenizer):
    task = task_of(tmp_path)
    rows = prepare_data(task, tokenizer)
    by_row = sorted(rows["validation"], key=lambda row: row["row"])
    assert [row["query_number"] for row in by_row] == [i // 2 for i in range(20)]
    assert [row["passage_number"] for row in by_row] == list(range(20))
    assert {row["labels"] for row in by_row} == {1.0}
    assert len(rows["train"]) == 40 and "query_number" not in rows["train"].column_names


def test_metrics_and_intervals_do_not_depend_on_batches(tmp_path, tokenizer):
    task = task_of(tmp_path)
    results = [evaluated(task, tokenizer, size) for size in (1, 7, 20)]
    for result in results[1:]:
        assert result.metrics == pytest.approx(results[0].metrics)
        for name, values in result.replicates.items():
            np.testing.assert_allclose(values, results[0].replicates[name], atol=1e-9)
    edges = intervals(results[0].replicates)
    assert all(low <= results[0].metrics[name] <= high for name, (low, high) in edges.items())
    assert edges["ndcg_10"][0] < edges["ndcg_10"][1]


def test_a_label_of_zero_is_not_relevant(tmp_path, tokenizer):
    rows = [(*pair, int(number % 2 == 0)) for number, pair in enumerate(PAIRS)]
    labelled = evaluated(task_of(tmp_path, rows, ("query", "passage", "label")), tokenizer, 20)
    assert labelled.metrics["recall_10"] <= 1 and labelled.labels.tolist() != [1.0] * 20
    rows[3] = (*PAIRS[3], -1)
    with pytest.raises(ValueError, match="'label' is -1; a relevance is at least 0"):
        prepare_data(task_of(tmp_path, rows, ("query", "passage", "label")), tokenizer)


def test_in_training_only_the_metric_that_chooses_is_computed(tmp_path):
    task = task_of(tmp_path, metric="mrr_10")
    assert list(task.training_metrics()) == ["mrr_10"] and len(task.metrics()) == 3
