"""A first config is one that runs: it is read, checked and says what was found in the data."""

from pathlib import Path

import pytest
from transformers import BertConfig, BertForTokenClassification

from distill.command.starter.facts import look_at
from distill.command.starter.recipe import TARGETS, starter_config
from distill.config.errors import ConfigError
from distill.experiment.runs import read_runs
from distill.training.prepare.documents import check_runs
from students.models.pooling import Pooling, write_pooling
from tests.helpers.repositories import save_tiny_bert, save_tokenizer, sentences
from tests.helpers.tables import write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A classifier with names, and rows that bear them."""
    save_tiny_bert(tmp_path / "model", layers=4, hidden=24, heads=4, labels=["bad", "good"])
    rows = [
        {"id": i, "Review": r["sentence"], "Label": ["bad", "good"][r["label"]]} for i, r in enumerate(sentences(60, 0))
    ]
    write(tmp_path / "data.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("target", TARGETS)
def test_the_config_passes_the_check_of_a_run(folder: Path, target: str) -> None:
    facts = look_at("model", "data.jsonl", None)
    assert (facts.task, facts.rows, facts.layers, facts.labels) == ("classification", 60, 4, {})
    assert facts.columns == {"text": "Review", "label": "Label"} and facts.max_length == 16
    Path("x.yaml").write_text(starter_config("model", "data.jsonl", facts, target))
    overrides = {"teacher": "{model: model, check: false}", "trainer.accelerator": "cpu"}
    overrides |= {"trainer.precision": "32-true"} if target == "gpu" else {}
    ((name, plan),) = check_runs(read_runs("x.yaml", overrides), False)
    assert name == "x" and plan.timeline.total_steps >= 10
    assert plan.parts.student.config.num_hidden_layers == 2


def test_outputs_without_names_are_matched_by_a_guess_that_is_said(folder: Path) -> None:
    save_tiny_bert(folder / "unnamed", layers=2, hidden=24, heads=4, labels=["LABEL_0", "LABEL_1"])
    facts = look_at("unnamed", "data.jsonl", None)
    assert facts.labels == {"bad": "0", "good": "1"}
    text = starter_config("unnamed", "data.jsonl", facts, "cpu")
    assert "labels: {bad: '0', good: '1'}" in text and "labels is a guess" in text
    Path("x.yaml").write_text(text)
    read_runs("x.yaml", {})


@pytest.mark.parametrize(
    ("outputs", "rows", "label"),
    [
        (
            ["LABEL_0"],
            [{"a": f"film {i}", "b": "the film", "similarity": i % 6, "row": i} for i in range(20)],
            "similarity",
        ),
        (
            ["bad", "good"],
            [{"review": f"film {i}", "verdict": "good" if i % 3 else "bad"} for i in range(20)],
            "verdict",
        ),
        (["bad", "good"], [{"review": f"film {i}", "verdict": i % 2 == 0, "n": i} for i in range(20)], None),
        (["LABEL_0"], [{"a": f"film {i}", "x": i / 2, "y": i / 3} for i in range(20)], None),
    ],
)
def test_labels_are_the_only_column_that_the_outputs_could_be(
    folder: Path, outputs: list[str], rows: list[dict], label: str | None
) -> None:
    save_tiny_bert(folder / "other", layers=2, hidden=24, heads=4, labels=outputs)
    write(folder / "rows.jsonl", rows)
    if label is None:
        with pytest.raises(ConfigError, match="which column has the labels"):
            look_at("other", "rows.jsonl", None)
    else:
        assert look_at("other", "rows.jsonl", None).columns["label"] == label


def test_a_pair_a_number_and_words(folder: Path) -> None:
    save_tiny_bert(folder / "number", layers=2, hidden=24, heads=4, labels=["LABEL_0"])
    write(folder / "pairs.jsonl", [{"sentence1": "a film", "sentence2": "the film", "score": i / 9} for i in range(20)])
    facts = look_at("number", "pairs.jsonl", None)
    assert facts.task == "regression" and facts.columns == {"text": ["sentence1", "sentence2"], "label": "score"}
    assert "LogitsMSE" in starter_config("number", "pairs.jsonl", facts, "cpu")
    size = save_tokenizer(folder / "tagger")
    config = BertConfig(vocab_size=size, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_labels=2)
    BertForTokenClassification(config).save_pretrained(folder / "tagger")
    write(folder / "words.jsonl", [{"tokens": ["a", "film"], "ner_tags": ["O", "B-X"]}] * 20)
    facts = look_at("tagger", "words.jsonl", None)
    assert facts.task == "token_classification" and facts.columns == {"words": "tokens", "tags": "ner_tags"}


def test_a_text_encoder_and_pairs(folder: Path) -> None:
    save_tiny_bert(folder / "encoder", layers=2, hidden=24, heads=4)
    write_pooling(folder / "encoder", Pooling("mean", True), 24)
    write(folder / "pairs.jsonl", [{"sentence1": "a film", "sentence2": "the film", "score": i / 9} for i in range(20)])
    facts = look_at("encoder", "pairs.jsonl", None)
    assert facts.task == "embedding" and facts.columns == {"text": ["sentence1", "sentence2"], "label": "score"}
    (folder / "first.yaml").write_text(starter_config("encoder", "pairs.jsonl", facts, "browser"))
    ((_, plan),) = check_runs(read_runs(folder / "first.yaml", {"trainer.accelerator": "cpu"}), False)
    assert plan.parts.student.pooling == Pooling("mean", True)


def test_queries_and_passages(folder: Path) -> None:
    save_tiny_bert(folder / "scorer", layers=2, hidden=24, heads=4, labels=["relevance"])
    rows = [{"query": f"a film {i // 4}", "passage": "the film", "label": int(i % 4 == 0)} for i in range(40)]
    write(folder / "found.jsonl", rows)
    facts = look_at("scorer", "found.jsonl", None)
    assert facts.task == "ranking" and facts.columns == {"text": ["query", "passage"], "label": "label"}
    (folder / "third.yaml").write_text(starter_config("scorer", "found.jsonl", facts, "cpu"))
    assert "MarginMSE" in (folder / "third.yaml").read_text() and "batch_size: 8" in (folder / "third.yaml").read_text()
    check_runs(read_runs(folder / "third.yaml", {"trainer.accelerator": "cpu"}), False)
    write(folder / "alone.jsonl", rows[::4])
    assert look_at("scorer", "alone.jsonl", "label").task == "regression", "no query has two passages"


def test_what_is_missing_is_named(folder: Path) -> None:
    save_tiny_bert(folder / "headless", layers=2, hidden=24, heads=4)
    write(folder / "odd.jsonl", [{"review": "a film", "verdict": "good"}, {"review": "film", "verdict": "bad"}])
    for model, data, message in (
        ("headless", "data.jsonl", r"headless: has no head of a task \(BertModel\); fine-tune it first"),
        ("model", "odd.jsonl", "which column has the labels.*there are review, verdict"),
        ("nowhere/x", "data.jsonl", "nowhere/x"),
        ("model", "nowhere.csv", "there is no file or folder 'nowhere.csv'"),
    ):
        with pytest.raises(ConfigError, match=message):
            look_at(model, data, None)
    assert look_at("model", "odd.jsonl", "verdict").columns == {"text": "review", "label": "verdict"}
