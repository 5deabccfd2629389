"""The ranking task: a row is a query with its passages; what a model reads is a row for each passage."""

import math

import pytest
import torch

from distill.data import prepare_data
from distill.data.batches import Collator
from distill.evaluation.baseline import baseline_metrics
from distill.evaluation.measure import evaluate_model
from distill.tasks.kinds.rankings import Ranking
from distill.tasks.soft_labels import KEY
from distill.teachers.columns import Columns
from distill.teachers.recorded import RecordedTeacher, recorded_values
from losses.loss import label_mask, prediction_mask
from students.recording.signals import Signals
from tests.helpers.tables import write_splits

ROWS = [
    ("is the film great", "the film is great", 2),
    ("is the plot dull", "a plot", 1),
    ("is the film great", "dull", 0),
    ("is the plot dull", "the actor is warm and the music is one of the very clever", 0),
    ("is the film great", "a film", 1),
]


def task_of(folder, rows=ROWS, names=("query", "passage", "label"), **given: object) -> Ranking:
    return Ranking(data=write_splits(folder, names, rows), max_length=16, **given)


def test_passages_are_joined_by_query_and_split_in_the_batch(tmp_path, tokenizer):
    task = task_of(tmp_path)
    rows = prepare_data(task, tokenizer)
    assert len(rows["train"]) == 2 and rows["train"]["labels"][:] == [[2.0, 0.0, 1.0], [1.0, 0.0]]
    assert task.facts.files[0].rows_kept == 5 and task.facts.files[0].rows_left_out == 0
    batch = Collator(tokenizer, None, task.finalize_batch)(list(rows["train"].remove_columns("length")))
    pairs = [(q, p) for query in dict.fromkeys(q for q, *_ in ROWS) for q, p, _ in ROWS if q == query]
    expected = tokenizer(*zip(*pairs, strict=True), truncation=True, max_length=16, padding=True, return_tensors="pt")
    for name, values in expected.items():
        assert torch.equal(batch[name], values), name
    assert batch["labels"].tolist() == [[2, 0, 1], [1, 0, -math.inf]]
    assert prediction_mask(batch).sum() == label_mask(batch).sum() == 5 and "sizes" not in batch


def test_logits_of_passages_are_selected_by_query_and_expanded_again(tmp_path, tokenizer):
    task = task_of(tmp_path)
    rows = prepare_data(task, tokenizer)["train"].remove_columns("length")
    batch = Collator(tokenizer, None, task.finalize_batch)(list(rows))
    logits = torch.arange(1.0, 6.0)[:, None]
    selected = task.select_logits(logits, batch)
    assert selected.squeeze(-1).tolist() == [[1, 2, 3], [4, 5, 0]]
    assert torch.equal(task.expand_logits(selected, batch), logits)
    assert task.predictions(selected, batch).tolist() == [1, 2, 3, 4, 5]
    assert task.prediction_labels(batch).tolist() == [2, 0, 1, 1, 0]


def test_the_metric_does_not_depend_on_batches(tmp_path, tokenizer):
    task = task_of(tmp_path)
    rows = prepare_data(task, tokenizer)["validation"].remove_columns("length")
    collate = Collator(tokenizer, None, task.finalize_batch)

    def predict(batch: dict) -> torch.Tensor:
        return (batch["input_ids"] * batch["attention_mask"]).sum(1, keepdim=True).float().cos()

    results = [
        evaluate_model(task, predict, [collate([rows[i] for i in part]) for part in parts], resample=True)
        for parts in ([[0, 1]], [[0], [1]], [[1], [0]])
    ]
    for result in results[1:]:
        assert result.metrics == pytest.approx(results[0].metrics)
    assert results[0].rows == 2 and len(results[0].predictions) == 5  # queries are drawn, not passages


def test_queries_are_held_out_and_limited_as_a_whole(tmp_path, tokenizer):
    rows = [(f"is the {word}", passage, label) for word in "abcdefghijklmnopqrst" for _, passage, label in ROWS[:3]]
    task = task_of(tmp_path, rows, max_train_samples=10)
    (tmp_path / "data" / "validation.parquet").unlink()
    prepared = prepare_data(task, tokenizer)
    assert [len(labels) for labels in prepared["train"]["labels"]] == [3] * 10
    assert [len(labels) for labels in prepared["validation"]["labels"]] == [3] * 2
    assert task.facts.files[0].rows_held_out == 6


def test_usual_names_of_columns_are_found_and_others_asked_for(tmp_path, tokenizer):
    task = task_of(tmp_path, names=("question", "context", "label"))
    assert len(prepare_data(task, tokenizer)["train"]) == 2
    task = task_of(tmp_path, names=("q", "p", "label"))
    with pytest.raises(ValueError, match="text: name the column of the text, or the two of a pair"):
        prepare_data(task, tokenizer)


def test_the_passage_may_be_the_first_column(tmp_path, tokenizer):
    rows = [(passage, query, label) for query, passage, label in ROWS]
    task = task_of(tmp_path, rows, names=("passage", "query", "label"))
    assert prepare_data(task, tokenizer)["train"]["labels"][:] == [[2.0, 0.0, 1.0], [1.0, 0.0]]
    assert task.texts == ["query", "passage"]


def test_queries_with_one_passage_each_are_refused(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="text: no text of 'query' has two rows, so no passages can be ranked"):
        prepare_data(task_of(tmp_path, ROWS[:2]), tokenizer)


def test_a_teachers_scores_are_read_by_passage(tmp_path, tokenizer):
    rows = [(*row, 10.0 * number) for number, row in enumerate(ROWS, 1)]
    task = task_of(tmp_path, rows, names=("query", "passage", "label", "score"))
    Columns(columns=["score"]).set_up_task(task, tmp_path)
    table = prepare_data(task, tokenizer)["train"]
    assert recorded_values(task, table, KEY).squeeze(-1).tolist() == [10, 30, 50, 20, 40]
    assert recorded_values(task, table, "labels").tolist() == [2, 0, 1, 1, 0]
    batch = Collator(tokenizer, None, task.finalize_batch)(list(table.remove_columns("length")))
    logits = RecordedTeacher().trace(batch, Signals(logits=True)).logits
    assert task.select_logits(logits, batch).squeeze(-1).tolist() == [[10, 30, 50], [20, 40, 0]]
    assert Columns(columns=["score"]).recorded_batches([batch]) == [batch]
    rows[3] = (*ROWS[3], None)
    task = task_of(tmp_path, rows, names=("query", "passage", "label", "score"))
    Columns(columns=["score"]).set_up_task(task, tmp_path)
    with pytest.raises(ValueError, match="row 4: score is empty, and a relevance is not a score"):
        prepare_data(task, tokenizer)


def test_the_baseline_is_any_order_of_passages(tmp_path, tokenizer):
    task = task_of(tmp_path, [*ROWS[:1], *ROWS[2:3], *ROWS[1:2], *ROWS[3:4]], metric="mrr_10")
    rows = prepare_data(task, tokenizer)["validation"].remove_columns(["length", "row"])
    batch = Collator(tokenizer, None, task.finalize_batch)(list(rows))
    assert baseline_metrics(task, [batch]) == {"mrr_10": pytest.approx(0.75)}  # of two passages one, first or second


def test_unlabelled_queries_are_learnt_from_the_teacher(tmp_path, tokenizer):
    (tmp_path / "more.csv").write_text("query,passage\nis it,a film\nis it,the plot\nis the end,warm\n")
    task = task_of(tmp_path, unlabelled=str(tmp_path / "more.csv"))
    labels = prepare_data(task, tokenizer)["train"]["labels"][:]
    assert len(labels) == 4 and all(map(math.isnan, labels[2] + labels[3])) and len(labels[2]) == 2
