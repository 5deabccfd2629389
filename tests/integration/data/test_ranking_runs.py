"""Ranking runs from data to report: queries with their passages, whatever their order and number."""

import csv
import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.metrics import ndcg_score
from transformers import BertConfig, BertForSequenceClassification

from distill import load
from students.loading.adapters import load_tokenizer
from tests.helpers import runs
from tests.helpers.repositories import BAD, GOOD, NOUNS, save_tokenizer

CONFIG = """\
task: {{name: ranking, data: {folder}/data, max_length: 24, batch_size: 4}}
teacher: {folder}/teacher
student: {{kind: Transformer, layers: 1}}
losses: {{margin: {{kind: MarginMSE}}, list: {{kind: ListwiseKL}}, hidden: {{kind: HiddenMSE}}}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""


def asked(rows: int, seed: int) -> list[dict]:
    """Queries with two to five passages each, in any order, of which one or two are relevant."""
    draw = random.Random(seed)
    made = []
    for number in range(rows):
        noun = NOUNS[number % len(NOUNS)]
        for place in range(draw.randint(2, 5)):
            about = noun if place == 0 else draw.choice(NOUNS)
            text = f"the {about} is {draw.choice(GOOD + BAD)}"
            made.append({"query": f"is the {noun} {GOOD[number // 10]}", "passage": text, "label": int(about == noun)})
    draw.shuffle(made)
    return made


trained, refusal = partial(runs.trained, CONFIG), partial(runs.refusal, CONFIG)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with ``data``, of which the test rows are those of validation, and a random ``teacher``."""
    folder = tmp_path_factory.mktemp("ranking")
    (folder / "data").mkdir()
    for seed, (split, count) in enumerate({"train": 30, "validation": 12, "test": 12}.items()):
        Dataset.from_list(asked(count, min(seed, 1))).to_parquet(folder / "data" / f"{split}.parquet")
    size = save_tokenizer(folder / "teacher")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = BertConfig(vocab_size=size, max_position_embeddings=32, num_labels=1, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder / "teacher")
    return folder


def expected_ndcg(rows: list[dict], score) -> float:
    """The metric by scikit-learn, of the queries with a relevant passage; there are no equal scores."""
    values = []
    for query in dict.fromkeys(row["query"] for row in rows):
        passages = [row for row in rows if row["query"] == query]
        labels = [row["label"] for row in passages]
        if any(labels):
            values.append(ndcg_score([labels], [[score(row) for row in passages]], k=10))
    return float(np.mean(values))


def test_runs_from_data_to_report(world):
    prune = "prune: {kind: Magnitude, shape: neurons, sparsity: {kind: Cubic, to: 0.25, start: 10%, stop: 60%}}"
    folder = trained(world, "plain", ("output", f"{prune}\nexport: onnx\noutput"))
    report = json.loads((folder / "report.json").read_text())
    assert report["main_metric"] == "ndcg_10"
    answers = load(folder)
    rows = asked(12, 1)
    scores = {(row["query"], row["passage"]): answers([(row["query"], row["passage"])])[0]["score"] for row in rows}
    ndcg = expected_ndcg(rows, lambda row: scores[row["query"], row["passage"]])
    models = report["models"]
    assert report["exports"][0]["metrics"]["ndcg_10"] == pytest.approx(ndcg, abs=1e-5)
    low, high = models["student"]["intervals"]["ndcg_10"]
    assert low <= models["student"]["metrics"]["ndcg_10"] <= high and high - low < 0.5
    assert models["teacher"]["metrics"].keys() == {"ndcg_10", "mrr_10"}
    for name, metrics in report["test"]["metrics"].items():
        assert metrics == pytest.approx(models[name]["metrics"]), name
    assert report["exports"][0]["agreement"] == 1
    files = report["preflight"]["data"][""]["files"]
    train = next(file for file in files if file["split"] == "train")
    assert train["rows_kept"] == train["rows_read"] == len(asked(30, 0))


def test_an_int8_student_ranks_in_its_file(world):
    activations = "activations: {granularity: token, symmetric: true}"
    folder = trained(world, "int8", ("output", f"quantize: {{{activations}, start: 50%}}\nvocabulary: seen\noutput"))
    export = json.loads((folder / "report.json").read_text())["exports"][0]
    assert export["precision"].endswith("int8") and export["agreement"] > 0.8
    assert export["batch_dependence"]["changed"] < 0.1


def test_the_teachers_metric_is_that_of_its_scores(world):
    folder = trained(world, "teacher-only", ("max_epochs: 2", "max_steps: 1"))
    model = BertForSequenceClassification.from_pretrained(world / "teacher").eval()
    tokenizer = load_tokenizer(str(world / "teacher"))

    def score(row: dict) -> float:
        with torch.no_grad():
            return float(model(**tokenizer(row["query"], row["passage"], return_tensors="pt")).logits)

    report = json.loads((folder / "report.json").read_text())
    assert report["models"]["teacher"]["metrics"]["ndcg_10"] == pytest.approx(
        expected_ndcg(asked(12, 1), score), abs=1e-5
    )


def test_labels_and_single_scores_can_be_learnt_too(world):
    losses = "labels: {kind: Labels}, scores: {kind: LogitsMSE}"
    folder = trained(world, "labels", ("margin: {kind: MarginMSE}, list: {kind: ListwiseKL}", losses))
    first = (folder / "metrics.csv").read_text().splitlines()
    assert "train/labels" in first[0] and "train/scores" in first[0]


def test_a_column_of_the_teachers_scores_gives_the_run_of_the_teacher(world, tmp_path):
    """The loss of each step is that with the model, and the report has the teacher's metrics."""
    model = BertForSequenceClassification.from_pretrained(world / "teacher").eval()
    tokenizer = load_tokenizer(str(world / "teacher"))
    for split, count, seed in (("train", 30, 0), ("validation", 12, 1)):
        rows = asked(count, seed)
        for row in rows:
            with torch.no_grad():
                inputs = tokenizer(row["query"], row["passage"], return_tensors="pt")
                row["score"] = float(model(**inputs).logits)
        Dataset.from_list(rows).to_parquet(tmp_path / f"{split}.parquet")
    outputs = (", hidden: {kind: HiddenMSE}", ""), ("{kind: Transformer, layers: 1}", f"{world}/teacher")
    online = trained(world, "online", *outputs)
    columns = (f"teacher: {world}/teacher", "teacher: {columns: [score], check: false}")
    offline = trained(world, "offline", (f"{world}/data", str(tmp_path)), columns, *outputs)
    losses = [read_column(folder / "metrics.csv", "train/margin") for folder in (online, offline)]
    assert len(losses[0]) > 4 and losses[0] == pytest.approx(losses[1], abs=1e-6)
    reports = [json.loads((folder / "report.json").read_text()) for folder in (online, offline)]
    ours, theirs = (report["models"]["teacher"]["metrics"] for report in reports)
    assert ours == pytest.approx(theirs) and 0 < reports[0]["baseline"]["ndcg_10"] < 1


def read_column(file: Path, name: str) -> list[float]:
    with open(file) as lines:
        return [float(row[name]) for row in csv.DictReader(lines) if row[name]]


def test_several_teachers_are_averaged(world):
    two = f"teacher: {{members: {{one: {world}/teacher, two: {world}/teacher}}}}"
    changes = (f"teacher: {world}/teacher", two), (", hidden: {kind: HiddenMSE}", "")
    folder = trained(world, "two", *changes)
    models = json.loads((folder / "report.json").read_text())["models"]
    assert models["teacher"]["metrics"] == pytest.approx(models["teacher one"]["metrics"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "teacher: {folder}/teacher\n",
            "teacher: {{model: {folder}/teacher, cache: true}}\n",
            "teacher.cache: outputs are",
        ),
        ("name: ranking", "name: regression", "losses.margin: compares passages, which only ranking has"),
        ("batch_size: 4", "batch_size: 4, augment: {{kind: Masking, probability: 0.1}}", "task.augment: the passages"),
        ("kind: MarginMSE", "kind: Logits", "a single output has no distribution; use LogitsMSE"),
        ("batch_size: 4", "batch_size: 4, text: [query]", "name the columns of query and passage, not 'query' alone"),
    ],
)
def test_what_does_not_fit_is_refused(world, old, new, message):
    assert message in refusal(world, (old.format(folder=world), new.format(folder=world)))


def test_a_negative_relevance_is_refused_with_its_row(world, tmp_path):
    for split in ("train", "validation"):
        rows = asked(8, 0)
        rows[2]["label"] = -1
        Dataset.from_list(rows).to_parquet(tmp_path / f"{split}.parquet")
    message = refusal(world, (f"{world}/data", str(tmp_path)))
    assert "'label' is -1; a relevance is at least 0" in message
