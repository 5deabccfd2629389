"""The embedding task: each text trains, pairs are judged by the cosines of their vectors."""

import math
from copy import deepcopy

import pytest
import torch
from scipy.stats import spearmanr

from distill.data import prepare_data
from distill.data.batches import Collator
from distill.evaluation.measure import evaluate_model
from distill.tasks.kinds.embedding import Embedding
from students.recording.second_text import second_text
from tests.helpers.tables import write_splits

PAIRS = [
    ("great", "lovely film", 4.0),
    ("dull film", "great", 1.0),
    ("the film", "the plot", 3.0),
    ("dull", "boring actor", 5.0),
]


def task_of(folder, pairs=PAIRS, names=("sentence1", "sentence2", "label"), **given: object) -> Embedding:
    return Embedding(data=write_splits(folder, names, pairs), max_length=16, **given)


def test_each_text_trains_and_pairs_are_judged(tmp_path, tokenizer):
    task = task_of(tmp_path)
    rows = prepare_data(task, tokenizer)
    assert len(rows["train"]) == 8 and len(rows["validation"]) == 4
    texts = tokenizer([row[0] for row in PAIRS] + [row[1] for row in PAIRS])["input_ids"]
    assert rows["train"]["input_ids"][:] == texts
    assert all(math.isnan(label) for label in rows["train"]["labels"])
    assert not any(name.startswith("second_") for name in rows["train"].column_names)
    by_row = {row["row"]: row for row in rows["validation"]}
    assert [by_row[i]["labels"] for i in range(4)] == [4.0, 1.0, 3.0, 5.0]
    assert [by_row[i]["second_input_ids"] for i in range(4)] == texts[4:]


def test_the_metric_is_the_rank_correlation_of_cosines(tmp_path, tokenizer):
    task = task_of(tmp_path)
    rows = prepare_data(task, tokenizer)["validation"].remove_columns("length")
    table = torch.randn(len(tokenizer), 8, generator=torch.Generator().manual_seed(0))

    def predict(batch: dict) -> torch.Tensor:
        weights = batch["attention_mask"][..., None]
        return (table[batch["input_ids"]] * weights).sum(1)

    collate = Collator(tokenizer)
    cosines = []
    for row in rows:
        batch = collate([row])
        vectors = predict(batch)[0].double(), predict(second_text(batch))[0].double()
        cosines.append(float(vectors[0] @ vectors[1] / (vectors[0].norm() * vectors[1].norm())))
    expected = spearmanr(cosines, rows["labels"][:]).statistic
    for size in (1, 3, 4):  # padding changes nothing
        batches = [collate([rows[i] for i in range(start, min(start + size, 4))]) for start in range(0, 4, size)]
        result = evaluate_model(task, predict, batches)
        assert result.metrics["spearman"] == pytest.approx(expected)
        torch.testing.assert_close(result.predictions.double(), torch.tensor(cosines, dtype=torch.double))


def test_padding_of_the_second_text_is_that_of_the_tokenizer(tmp_path, tokenizer):
    task = task_of(tmp_path)
    rows = prepare_data(task, tokenizer)["validation"].remove_columns("length")
    tokenizer = deepcopy(tokenizer)
    tokenizer.pad_token_id = 7
    batch = Collator(tokenizer)(list(rows))
    assert (batch["second_input_ids"][batch["second_attention_mask"] == 0] == 7).all()
    assert (batch["second_attention_mask"] == 0).any()


def test_a_single_column_cannot_be_judged(tmp_path, tokenizer):
    task = task_of(tmp_path, [("great", 1.0), ("dull", 2.0)], names=("text", "label"))
    with pytest.raises(ValueError, match="text: name the two columns of a pair.*'text' alone.*go into unlabelled"):
        prepare_data(task, tokenizer)


def test_labels_are_numbers(tmp_path, tokenizer):
    task = task_of(
        tmp_path, [("great", "dull", "similar"), ("great", "great", "same")], text=["sentence1", "sentence2"]
    )
    with pytest.raises(ValueError, match="'label' is 'similar', not a number"):
        prepare_data(task, tokenizer)


def test_unlabelled_texts_may_lack_the_second_column(tmp_path, tokenizer):
    (tmp_path / "more.csv").write_text("sentence1,other\na great plot,1\nthe film,2\n")
    task = task_of(tmp_path, unlabelled=str(tmp_path / "more.csv"))
    assert len(prepare_data(task, tokenizer)["train"]) == 8 + 2
    (tmp_path / "more.csv").write_text("sentence1,sentence2\na great plot,the film\nthe end,a film\n")
    assert len(prepare_data(task, tokenizer)["train"]) == 8 + 4
    (tmp_path / "more.csv").write_text("text\na great plot\na film\n")
    with pytest.raises(ValueError, match="unlabelled: there is no column 'sentence1'"):
        prepare_data(task, tokenizer)


def test_rows_that_are_held_out_are_pairs(tmp_path, tokenizer):
    task = task_of(tmp_path, PAIRS * 5)
    (tmp_path / "data" / "validation.parquet").unlink()
    rows = prepare_data(task, tokenizer)
    assert len(rows["train"]) == 36 and len(rows["validation"]) == 2
    assert task.facts.files[0].rows_kept == 18 and task.facts.files[0].rows_held_out == 2
