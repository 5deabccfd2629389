"""Runs are compared by what a person may choose by: quality, bytes, latency; a front has no beaten model."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from distill.config.errors import ConfigError
from distill.reporting.comparison.page import differences, notes, render
from distill.reporting.comparison.replicates import Replicates, read_replicates, write_replicates
from distill.reporting.comparison.runs import Candidate, Comparison, read_comparison


def candidate(name: str, quality: float, size: int, latency: float) -> Candidate:
    return Candidate(name, quality, size, latency, 10 * latency, "onnxruntime int8", "cpu, 2 threads")


def beaten(comparison: Comparison, one: Candidate, cost: str) -> bool:
    return any(
        getattr(other, cost) <= getattr(one, cost)
        and comparison.gain(other) >= comparison.gain(one)
        and (getattr(other, cost), comparison.gain(other)) != (getattr(one, cost), comparison.gain(one))
        for other in comparison.candidates
    )


@pytest.mark.parametrize("metric", ["accuracy", "perplexity"])
@pytest.mark.parametrize("cost", ["bytes", "batch_1"])
def test_the_front_is_what_no_other_model_beats(metric: str, cost: str) -> None:
    draw = random.Random(3)
    models = [candidate(str(i), draw.random(), draw.randrange(1, 9), draw.randrange(1, 9)) for i in range(30)]
    comparison = Comparison(metric, models, [])
    front = comparison.front(cost)
    assert front and {c.name for c in front} == {c.name for c in models if not beaten(comparison, c, cost)}


def test_the_best_is_a_student_within_the_limits() -> None:
    models = [
        candidate("teacher of a", 0.95, 100, 9.0),
        candidate("a", 0.9, 50, 5.0),
        candidate("b", 0.85, 10, 4.0),
        candidate("c", 0.8, 5, 1.0),
    ]
    comparison = Comparison("accuracy", models, [])
    assert comparison.best(None, None).name == "a"
    assert comparison.best(10, None).name == "b"
    assert comparison.best(50, 1.0).name == "c"
    assert comparison.best(4, None) is None
    assert Comparison("perplexity", models, []).best(None, None).name == "c"


def report(folder: Path, quality: float | None, cpu: str = "x", metric: str = "accuracy") -> Path:
    folder.mkdir(parents=True)
    common = {"bytes": 8, "latency_ms": {"batch_1": 1.0, "batch_32": 9.0}, "runtime": "torch", "precision": "float32"}
    models = {"teacher": common | {"metrics": {metric: 0.9}}, "student": common | {"metrics": {metric: quality}}}
    facts = {"task": "classification", "main_metric": metric, "models": models, "hardware": {"cpu": cpu, "threads": 2}}
    (folder / "report.json").write_text(json.dumps(facts))
    return folder


def test_reports_are_read_and_one_teacher_stands_once(tmp_path: Path) -> None:
    folders = [report(tmp_path / "a", 0.8), report(tmp_path / "b", 0.7), report(tmp_path / "c", None)]
    (tmp_path / "d").mkdir()
    comparison = read_comparison([*folders, tmp_path / "d"])
    names = [Path(c.name).name for c in comparison.candidates]
    assert names == ["a", "a", "b"] and [c.is_teacher for c in comparison.candidates] == [True, False, False]
    assert comparison.skipped == [tmp_path / "d"]


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    folders = [report(tmp_path / "a", 0.8), report(tmp_path / "b", 0.7, metric="f1")]
    with pytest.raises(ConfigError, match="its main metric is f1, and that of .*a is accuracy"):
        read_comparison(folders)
    (tmp_path / "d").mkdir()
    with pytest.raises(ConfigError, match="no finished run"):
        read_comparison([tmp_path / "d"])
    with pytest.raises(ConfigError, match="there is no such folder"):
        read_comparison([tmp_path / "e"])


def test_the_page_has_all_models_and_says_which_machines(tmp_path: Path) -> None:
    comparison = read_comparison([report(tmp_path / "a", 0.8), report(tmp_path / "b<i>", 0.7, cpu="y")])
    page = render(comparison, "One & the best.", notes(comparison))
    assert "One &amp; the best." in page and page.count("<svg") == 2
    assert "b&lt;i&gt;" in page and "latencies are of different machines" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("https://www.w3.org", "")


@pytest.mark.parametrize(("gap", "verdict"), [(0.05, "more than noise"), (0.0, "the difference is noise")])
def test_a_difference_is_judged_on_the_same_rows(tmp_path: Path, gap: float, verdict: str) -> None:
    """Rows that are hard for one student are hard for the other: unpaired intervals would call both noise."""
    hard = np.random.default_rng(0).normal(0.0, 0.02, 1000)
    own = np.random.default_rng(1).normal(0.0, 0.005, 1000)
    for name, values in (("a", 0.85 + hard), ("b", 0.85 - gap + hard + own)):
        report(tmp_path / name, float(values.mean()))
        Replicates("accuracy", "same rows", values.tolist()).write(tmp_path / name)
    comparison = read_comparison([tmp_path / "a", tmp_path / "b"])
    best = comparison.best(None, None)
    (sentence,) = differences(comparison, best)
    assert sentence.endswith(verdict)
    Replicates("accuracy", "other rows", own.tolist()).write(tmp_path / "b")
    assert "not measured on the same rows" in differences(comparison, best)[0]


def test_replicates_are_of_the_rows_in_their_order(tmp_path: Path) -> None:
    """Of a language model the order is that of pieces, of which there are more than rows."""

    def fingerprint(texts: list[str], order: list[int]) -> str:
        task = SimpleNamespace(validation=Dataset.from_dict({"text": texts}), main_metric="accuracy")
        write_replicates(tmp_path, task, order, {"accuracy": np.array([0.5, 1.0])})
        return read_replicates(tmp_path).rows

    same = fingerprint(["a", "b"], [1, 0, 2])
    assert same == fingerprint(["a", "b"], [1, 0, 2])
    assert len({same, fingerprint(["a", "b"], [0, 1, 2]), fingerprint(["a", "c"], [1, 0, 2])}) == 3
