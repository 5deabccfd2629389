"""Slices of the validation rows, by length and by columns that the task does not read, and the loss on each."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from distill.data.batches import Collator
from distill.data.rows import prepare_data
from distill.evaluation import intervals
from distill.evaluation.deployed import DeployedStudent
from distill.evaluation.measure import EvalResult, evaluate_model
from distill.evaluation.slices import Slice, find_slices, length_names, slice_quality
from distill.reporting.details import page_details
from distill.tasks.kinds.language.causal import CausalLM
from distill.tasks.kinds.several import MultiTask
from distill.tasks.kinds.texts import Classification, Regression
from distill.tasks.task import Task

STUDENT = DeployedStudent(None, None, None, parity={}, layers=[], notes=[], precision="float32")
DOMAINS = ["law", "news", "rare"]


def domain(i: int) -> str:
    """Of 90 rows 30 are law, 50 news and 10 rare, scattered over all lengths."""
    return "law" if i % 3 == 0 else "rare" if i % 9 == 1 else "news"


def table(count: int = 90) -> Dataset:
    """Texts of one, three and six words in turn, a label, and columns that no task reads."""
    rows = [
        {
            "text": " ".join(["good"] * (1, 3, 6)[i % 10 % 3]),
            "label": i % 2,
            "domain": DOMAINS.index(domain(i)),
            "checked": None if i % 4 == 0 else i % 4 == 1,
            "number": i,
            "same": 7,
            "parts": ["a", "b"][: i % 2],
        }
        for i in range(count)
    ]
    features = {"text": Value("string"), "label": Value("int64"), "domain": ClassLabel(names=DOMAINS)}
    features |= {"checked": Value("bool"), "number": Value("int64"), "same": Value("int64")}
    return Dataset.from_list(rows, features=Features(features | {"parts": List(Value("string"))}))


def data(folder: Path, count: int = 90) -> str:
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation"):
        table(count).to_parquet(folder / f"{split}.parquet")
    return str(folder)


def wrong_at(task: Task, rows: Dataset, wrong: set[int], tokenizer: PreTrainedTokenizerBase) -> EvalResult:
    """The result of a classifier that is wrong at some rows of the table."""

    def predict(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        flip = torch.tensor([row in wrong for row in batch["row"].tolist()])
        return torch.nn.functional.one_hot(torch.where(flip, 1 - batch["labels"], batch["labels"]), 2).float()

    batches = DataLoader(rows, 16, collate_fn=Collator(tokenizer, finalize=task.finalize_batch))
    return evaluate_model(task, predict, list(batches), resample=True)


def test_thirds_of_the_lengths_have_their_ranges():
    assert length_names([9, 1, 5, 2, 6, 12]) == [
        "over 6 tokens", "up to 2 tokens", "3 to 6 tokens", "up to 2 tokens", "3 to 6 tokens", "over 6 tokens"
    ]  # fmt: skip
    assert length_names([3, 4, 5]) == ["up to 3 tokens", "4 tokens", "over 4 tokens"]
    assert length_names([2, 2, 2, 2, 7]) == ["up to 2 tokens"] * 4 + ["over 2 tokens"]
    assert length_names([2, 8, 8]) == ["up to 2 tokens"] + ["3 to 8 tokens"] * 2


def test_rows_are_sliced_by_length_and_by_columns_of_few_values(tmp_path: Path, tokenizer: PreTrainedTokenizerBase):
    task = Classification(data=data(tmp_path / "data"))
    rows = prepare_data(task, tokenizer)["validation"]
    found = {part.name: part for part in find_slices(task, rows)}
    numbers = {name: {rows["row"][i] for i in part.rows} for name, part in found.items()}
    words = [len(text.split()) for text in table()["text"]]
    assert numbers == {
        "up to 6 tokens": {i for i in range(90) if words[i] == 1},
        "7 to 14 tokens": {i for i in range(90) if words[i] == 3},
        "over 14 tokens": {i for i in range(90) if words[i] == 6},
        "domain: law": {i for i in range(90) if domain(i) == "law"},
        "domain: news": {i for i in range(90) if domain(i) == "news"},
        "checked: missing": set(range(0, 90, 4)),
        "checked: True": set(range(1, 90, 4)),
        "checked: False": {i for i in range(90) if i % 4 > 1},
    }
    assert {(part.metric, part.is_minimized) for part in found.values()} == {("accuracy", False)}


def test_few_rows_and_raw_text_have_no_slices(tmp_path: Path, tokenizer: PreTrainedTokenizerBase):
    task = Classification(data=data(tmp_path / "few", 15))
    assert find_slices(task, prepare_data(task, tokenizer)["validation"]) == []
    raw = CausalLM(data=data(tmp_path / "raw"), text="text", document="row")
    assert find_slices(raw, prepare_data(raw, tokenizer)["validation"]) == []


def test_each_of_several_tasks_has_slices_with_its_metric(tmp_path: Path, tokenizer: PreTrainedTokenizerBase):
    folder = data(tmp_path / "data")
    mood = Classification(data=folder, metric="f1")
    several = MultiTask(tasks={"mood": mood, "length": Regression(data=folder, label="number", text="text")})
    rows = prepare_data(several, tokenizer)["validation"]
    found = {part.name: part for part in find_slices(several, rows)}
    law = found["mood: domain: law"], found["length: domain: law"]
    assert [part.metric for part in law] == ["mood/f1", "length/spearman"]
    assert [set(part.rows) & set(range(90)) == set(part.rows) for part in law] == [True, False]
    assert [{domain(rows["row"][i]) for i in part.rows} for part in law] == [{"law"}] * 2
    assert "length: label: 1" in found, "a column that the other task reads"


@pytest.mark.parametrize("units", [2000, 10], ids=["rows", "blocks"])
def test_the_slice_that_loses_most_stands_first_with_a_paired_interval(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, units: int
):
    """Of 30 rows of law the teacher is right at 27, the student at 18 less; elsewhere both are wrong at the same 5."""
    monkeypatch.setattr("distill.evaluation.intervals.RESAMPLES", 200)
    monkeypatch.setattr("distill.evaluation.intervals.MAX_UNITS", units)
    task = Classification(data=data(tmp_path / "data"))
    rows = prepare_data(task, tokenizer)["validation"]
    law = [i for i in range(90) if domain(i) == "law"]
    both, lost = {*law[:3], *[i for i in range(90) if domain(i) == "news"][:5]}, set(law[10:28])
    results = {"teacher": wrong_at(task, rows, both, tokenizer)}
    results["student"] = wrong_at(task, rows, both | lost, tokenizer)
    slices = find_slices(task, rows)
    first = page_details(task, results, rows["row"], STUDENT, [], slices)["slices"][0]
    assert (first["name"], first["rows"], first["metric"], first["loses_more"]) == ("domain: law", 30, "accuracy", True)
    assert first["scores"] == {"teacher": pytest.approx(27 / 30), "student": pytest.approx(9 / 30)}
    assert (first["loss"], first["total_loss"]) == (pytest.approx(18 / 30), pytest.approx(18 / 90))
    assert first["difference"] == pytest.approx(-18 / 30)
    of_law = next(part for part in slices if part.name == "domain: law")
    change = -np.array([rows["row"][i] in lost for i in of_law.rows], dtype=float)
    if units == 10:  # blocks of three rows
        change = change.reshape(10, 3).mean(1)
    draws = np.random.default_rng(intervals.SEED).integers(0, len(change), (200, len(change)))
    expected = np.quantile(change[draws].mean(1), [0.025, 0.975])
    assert first["interval"] == pytest.approx(expected.tolist(), abs=1e-6)
    quality = {part.name: part for part in slice_quality(slices, results)}
    assert quality["domain: news"].difference == 0 and not quality["domain: news"].loses_more
    losses = [part.loss for part in quality.values()]
    assert losses == sorted(losses, reverse=True)


class States:
    """Stands in for the states of a model: a number for each row, whose mean is the metric."""

    def __init__(self, values: list[float]):
        self.values = np.array(values)

    def value(self, name: str, rows: list[int]) -> float:
        return float(self.values[rows].mean())

    def replicates(self, rows: list[int], names: list[str]) -> dict[str, np.ndarray]:
        return {names[0]: self.values[rows]}


def result(values: list[float], metric: str) -> EvalResult:
    return EvalResult({metric: float(np.mean(values))}, torch.zeros(4), None, states=States(values))


def test_a_higher_perplexity_is_a_loss():
    slices = [Slice(name, rows, "perplexity", True) for name, rows in (("a", [0, 1]), ("b", [2, 3]))]
    models = {"teacher": result([5, 5, 5, 5], "perplexity"), "student": result([4, 6, 8, 8], "perplexity")}
    first, second = slice_quality(slices, models)
    assert (first.name, first.difference, first.loss, first.total_loss, first.loses_more) == ("b", 3, 3, 1.5, True)
    assert (second.name, second.difference, second.loses_more) == ("a", 0, False)


def test_a_slice_within_noise_and_one_that_loses_less_than_all_are_not_marked():
    slices = [Slice(name, rows, "accuracy", False) for name, rows in (("a", [0, 1]), ("b", [2, 3]))]
    teacher = result([1.0, 1.0, 1.0, 1.0], "accuracy")
    for values, marked in (
        ([1.1, 0.2, 1.0, 1.0], [False, False]),
        ([0.8, 0.4, 0.7, 0.7], [False, False]),  # from 0.21 to 0.59, and 0.35 on all rows
        ([0.5, 0.5, 0.9, 0.9], [True, False]),
    ):
        found = slice_quality(slices, {"teacher": teacher, "student": result(values, "accuracy")})
        assert [part.loses_more for part in found] == marked


def test_without_a_teacher_the_worst_slice_stands_first_and_what_is_not_defined_last():
    slices = [Slice(name, [i], "accuracy", False) for i, name in enumerate("abc")]
    student = {"student": EvalResult({"accuracy": 0.5}, torch.zeros(3), None, states=States([math.nan, 0.9, 0.3]))}
    found = slice_quality(slices, student)
    assert [part.name for part in found] == ["c", "b", "a"]
    assert (found[0].difference, found[0].interval, found[0].loses_more) == (None, [0.3, 0.3], False)
