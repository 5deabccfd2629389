"""The ranking task: a row is a query with its passages; what a model reads is a row for each passage."""

import math

import pytest
import torch
from datasets import Dataset

from distill.data import prepare_data
from distill.data.batches import Collator
from distill.evaluation.measure import evaluate_model
from distill.tasks.kinds.rankings import Ranking
from losses.loss import label_mask, prediction_mask
from students.loading.adapters import load_tokenizer
from tests.helpers.repositories import save_tokenizer

ROWS = [
    ("is the film great", "the film is great", 2),
    ("is the plot dull", "a plot", 1),
    ("is the film great", "dull", 0),
    ("is the plot dull", "the actor is warm and the music is one of the very clever", 0),
    ("is the film great", "a film", 1),
]


@pytest.fixture
def tokenizer(tmp_path):
    save_tokenizer(tmp_path / "tokenizer")
    return load_tokenizer(str(tmp_path / "tokenizer"))


def task_of(folder, rows=ROWS, names=("query", "passage", "label"), **given: object) -> Ranking:
    (folder / "data").mkdir(exist_ok=True)
    for split in ("train", "validation"):
        table = Dataset.from_list([dict(zip(names, row, strict=False)) for row in rows])
        table.to_parquet(folder / "data" / f"{split}.parquet")
    return Ranking(data=str(folder / "data"), max_length=16, **given)


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


def test_unlabelled_queries_are_learnt_from_the_teacher(tmp_path, tokenizer):
    (tmp_path / "more.csv").write_text("query,passage\nis it,a film\nis it,the plot\nis the end,warm\n")
    task = task_of(tmp_path, unlabelled=str(tmp_path / "more.csv"))
    labels = prepare_data(task, tokenizer)["train"]["labels"][:]
    assert len(labels) == 4 and all(map(math.isnan, labels[2] + labels[3])) and len(labels[2]) == 2
