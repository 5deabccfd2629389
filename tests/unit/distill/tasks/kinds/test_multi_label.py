"""Rows with several labels: their formats, the order of the outputs, and decisions at a threshold."""

import json
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Features, List, Value
from transformers import PreTrainedTokenizerBase

from distill.config.errors import ConfigError
from distill.config.loader import load
from distill.data import prepare_data
from distill.evaluation.measure import evaluate_model
from distill.experiment.experiment import Experiment
from distill.tasks.kinds.multi_label import MultiLabel
from losses.loss import UNLABELED
from tests.helpers.tables import refused, texts_of, write
from tests.helpers.worlds import three_labels

HELD = [["a"], [], ["c", "a"], ["b", "c"]]
TARGETS = [[1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1]]
CELLS = {
    "names": HELD,
    "numbers": [["abc".index(name) for name in names] for names in HELD],
    "json": [json.dumps(names) for names in HELD],
    "separated": ["|".join(names) for names in HELD],
}


def save(folder: Path, cells: list, kind: str = "jsonl", features: Features | None = None) -> str:
    """Training and validation rows, film 0 to film 3."""
    for split in ("train", "validation"):
        write(
            folder / f"{split}.{kind}", [{"text": f"film {i}", "tags": cell} for i, cell in enumerate(cells)], features
        )
    return str(folder)


def task_of(data: str, **given: object) -> MultiLabel:
    return MultiLabel(data=data, text="text", **({"label": "tags"} | given))


def encoded(task: MultiLabel, tokenizer: PreTrainedTokenizerBase, head: list[str] | None = None) -> list[list[int]]:
    """The labels of film 0 to film 3 in the order of the outputs."""
    rows = prepare_data(task, tokenizer, {"": dict(enumerate(head))} if head else None)
    by_text = texts_of(rows["validation"], tokenizer)
    return [by_text[f"film {i}"] for i in range(len(by_text))]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("form", CELLS)
def test_labels_as_lists_json_or_texts(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, form: str, kind: str
) -> None:
    if kind == "csv" and form in ("names", "numbers"):
        pytest.skip("a csv has no lists")
    task = task_of(save(tmp_path, CELLS[form], kind), separator="|" if form == "separated" else None)
    assert encoded(task, tokenizer) == TARGETS
    assert task.classes.names == (["LABEL_0", "LABEL_1", "LABEL_2"] if form == "numbers" else ["a", "b", "c"])
    assert task.facts.classes[task.classes.names[2]] == {"train": 2, "validation": 2}
    assert "rows without a label: 1 train, 1 validation" in task.facts.notes


@pytest.mark.parametrize("yes, no", [(1, 0), (True, False), ("true", "False"), (1.0, 0.0)])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_column_for_each_label(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, yes: object, no: object, kind: str
) -> None:
    for split in ("train", "validation"):
        rows = [
            {"text": f"film {i}"} | {name: yes if name in names else no for name in "cab"}
            for i, names in enumerate(HELD)
        ]
        write(tmp_path / f"{split}.{kind}", rows)
    task = task_of(str(tmp_path), label=["c", "a", "b"])
    assert encoded(task, tokenizer) == [[row[2], row[0], row[1]] for row in TARGETS]
    assert task.classes.names == ["c", "a", "b"], "without a model they have the order of the config"
    assert encoded(task_of(str(tmp_path), label=["c", "a", "b"]), tokenizer, ["A", "B", "C"]) == TARGETS
    assert {use for name, use in task.facts.files[0].columns_used.items() if name in "abc"} == {"label"}
    assert [task.label_text(row) for row in task.validation] == ["a", "no label", "c, a", "c, b"]


def test_classes_with_names_and_those_of_a_model(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    features = Features({"text": Value("string"), "tags": List(ClassLabel(names=["a", "b", "c"]))})
    data = save(tmp_path, CELLS["numbers"], "parquet", features)
    assert encoded(task_of(data), tokenizer) == TARGETS
    assert encoded(task_of(data), tokenizer, ["c", "a", "b"]) == [[row[2], row[0], row[1]] for row in TARGETS]
    task = task_of(data, labels={"a": "x", "b": "y", "c": "x"})
    assert encoded(task, tokenizer, ["y", "x", "z"]) == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    ("cells", "given", "message"),
    [
        ([["a"], ["b"], ["a", "a"]], {}, "train.jsonl line 3: 'tags' has 'a' twice"),
        ([["a"], ["b"], None], {}, "train.jsonl line 3: 'tags' is missing; a row without labels has []"),
        (["a|b", "a", ""], {}, "train.jsonl line 1: 'tags' is 'a|b', no list as JSON, and task.separator is not given"),
        ([1, 0, 1], {}, "train.jsonl line 1: 'tags' is 1, a whole number, as in all rows, not a list of labels"),
        ([["a"], ["b"]], {"separator": "|"}, "line 1: 'tags' is ['a'], a list, as in all rows, not a text to separate"),
        ([[], [], []], {}, "label: no training row has a label in the column 'tags'"),
        ([["a"], ["b"], []], {"label": "tag"}, "label: there is no column 'tag'; there are text, tags"),
        ([["a"], ["b"], ["c"]], {"labels": {"a": "x", "b": "y"}}, "line 3: 'tags' has 'c', not one of a, b"),
    ],
)
def test_what_is_no_label_is_refused_with_its_line(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, cells: list, given: dict, message: str
) -> None:
    assert message in refused(task_of(save(tmp_path, cells), **given), tokenizer)


def test_a_name_that_training_does_not_have_and_a_bad_cell_are_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    data = save(tmp_path, [["a"], ["b"], []])
    write(tmp_path / "validation.jsonl", [{"text": "film", "tags": ["a", "bb"]}])
    assert "validation.jsonl line 1: 'tags' has 'bb', not one of a, b" in refused(task_of(data), tokenizer)
    rows = [{"text": "film", "a": value, "b": 1} for value in ("1", "2", "")]
    write(tmp_path / "columns.jsonl", rows)
    message = refused(task_of(str(tmp_path / "columns.jsonl"), label=["a", "b"]), tokenizer)
    assert "line 2: 'a' is '2', not 0, 1, true or false; line 3: 'a' is missing; write 0 or 1" in message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("label: [a]", "task.label: name two different columns or more, or one whose cells list labels"),
        ("label: [a, b, a]", "task.label: name two different columns"),
        ("label: [a, b], separator: '|'", "task.separator: with a column for each label there is nothing to separate"),
        ("separator: ''", "task.separator: must not be empty; quote it: '|'"),
        ("threshold: 1.0", "task.threshold: must lie between 0 and 1, not 1.0"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_config_is_read(tmp_path: Path, given: str, message: str) -> None:
    task = f"task: {{name: multi_label, data: x.csv, {given}}}\n"
    (tmp_path / "x.yaml").write_text(task + "student: bert\nlosses: {labels: {kind: Labels}}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "x.yaml", Experiment)
    assert message in str(caught.value)


def test_selected_logits_are_those_of_not_having_and_having_a_label() -> None:
    task, logits = three_labels(), torch.randn(4, 3)
    selected = task.select_logits(logits, {})
    torch.testing.assert_close(selected.softmax(-1)[..., 1], logits.sigmoid())
    torch.testing.assert_close(task.expand_logits(selected, {}), logits)
    combined = selected.log_softmax(-1)  # as an ensemble gives them
    torch.testing.assert_close(task.expand_logits(combined, {}), logits, atol=1e-5, rtol=1e-5)
    assert task.missing_target == [UNLABELED] * 3


def test_decisions_at_the_threshold_that_suits_the_rows() -> None:
    scores = torch.tensor([[0.3, 0.1, 0.4], [0.05, 0.45, 0.1]])
    batch = {"labels": torch.tensor([[1, 0, 1], [0, 1, 0]]), "row": torch.arange(2)}
    task = three_labels()
    result = evaluate_model(task, lambda batch: scores[batch["row"]].logit(), [batch], resample=True)
    assert result.threshold is not None and 0.1 < result.threshold <= 0.3 and task.threshold is None
    assert result.predictions.tolist() == result.labels.tolist() == batch["labels"].tolist()
    assert (
        result.metrics == {"f1_micro": 1.0, "f1_macro": 1.0, "mAP": 1.0}
        and result.replicates.keys() == result.metrics.keys()
    )
    expected = torch.where(batch["labels"].bool(), scores, 1 - scores)
    torch.testing.assert_close(result.confidences, expected)
    fixed = evaluate_model(three_labels(threshold=0.42), lambda batch: scores[batch["row"]].logit(), [batch])
    assert fixed.predictions.tolist() == [[0, 0, 0], [0, 1, 0]] and fixed.threshold == 0.42
    assert fixed.metrics["f1_micro"] == pytest.approx(0.5) and fixed.metrics["mAP"] == 1.0


def test_an_answer_names_the_labels_from_the_threshold_on() -> None:
    logits, names = torch.tensor([0.6, 0.2, 0.7]).logit(), ["a", "b", "c"]
    answer = three_labels(threshold=0.65).answer(logits, {}, names)
    assert answer["labels"] == ["c"] and answer["scores"] == pytest.approx({"a": 0.6, "b": 0.2, "c": 0.7})
    assert three_labels().answer(logits, {}, names)["labels"] == ["a", "c"]
    assert three_labels().prediction_text(torch.tensor([1, 0, 1]), {}) == "a, c"
    assert three_labels().prediction_text(torch.tensor([0, 0, 0]), {}) == "no label"


def test_texts_without_labels_are_trained_on(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    write(tmp_path / "more.jsonl", [{"text": "more"}, {"text": "text"}])
    task = task_of(save(tmp_path, HELD), unlabelled=str(tmp_path / "more.jsonl"))
    assert prepare_data(task, tokenizer)["train"]["labels"][3:] == [TARGETS[3], [-1, -1, -1], [-1, -1, -1]]


def test_a_task_that_is_only_served_has_a_threshold(tokenizer: PreTrainedTokenizerBase) -> None:
    for given, threshold in ({}, 0.5), ({"threshold": 0.3}, 0.3):
        task = three_labels(**given)
        task.restore(tokenizer, {"text": "text", "tags": "label"})
        assert (task.threshold, task.input_columns) == (threshold, ["text"])
