"""Runs on rows with several labels: the threshold of validation is that of test rows and of the saved student."""

import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from sklearn.metrics import average_precision_score, f1_score
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from distill import load, run
from distill.config.errors import ConfigError
from distill.export.serving.folder import write_folder
from distill.export.serving.labelled import evaluate_file
from tests.helpers.tables import write
from tests.helpers.worlds import praised, save_teacher

CONFIG = """\
task: {{name: multi_label, data: {data}, text: sentence, label: labels, max_length: 16, batch_size: 8}}
teacher: {{model: {folder}/teacher, check: false}}
student: {{kind: Transformer, layers: 1, hidden: 24, intermediate: 32}}
losses:
  labels: {{kind: Labels, class_weights: balanced, focal: 1.0}}
  logits: {{kind: Logits, temperature: 2.0}}
optimizer: {{lr: 1e-3}}
export: onnx
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""
NAMES = ["thing", "praise", "blame"]
COUNTS = {"train": 48, "validation": 40, "test": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, the same rows in three forms, and a run on lists."""
    folder = tmp_path_factory.mktemp("labels")
    save_teacher("multi_label", folder / "teacher", layers=2)
    for form in ("lists", "texts", "columns"):
        (folder / form).mkdir()
    for seed, (split, count) in enumerate(COUNTS.items()):
        draw = random.Random(seed)
        rows = [praised(draw) | {"source": draw.choice(["web", "app"])} for _ in range(count)]
        write(folder / "lists" / f"{split}.jsonl", rows)
        write(folder / "texts" / f"{split}.csv", [row | {"labels": "|".join(row["labels"])} for row in rows])
        columns = [{"sentence": row["sentence"]} | {n: int(n in row["labels"]) for n in NAMES} for row in rows]
        write(folder / "columns" / f"{split}.csv", columns)
    (folder / "x.yaml").write_text(CONFIG.format(data=folder / "lists", folder=folder))
    run(folder / "x.yaml")
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> dict:
    return json.loads((folder / "runs" / "x" / "report.json").read_text())


def scores_and_labels(folder: Path, split: str, model: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The probabilities of a saved model in plain transformers, and the labels, [N, 3] each."""
    rows = [json.loads(line) for line in (folder / "lists" / f"{split}.jsonl").read_text().splitlines()]
    net, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(model).eval(),
        AutoTokenizer.from_pretrained(model),
    )
    batch = tokenizer([row["sentence"] for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        scores = net(**batch).logits.sigmoid()
    names = [net.config.id2label[i] for i in range(3)]
    return scores, torch.tensor([[int(name in row["labels"]) for name in names] for row in rows])


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_metrics_are_those_of_the_saved_model_at_the_threshold_of_validation(
    folder: Path, report: dict, name: str
) -> None:
    path, threshold = (
        {"teacher": folder / "teacher", "student": folder / "runs/x/student"}[name],
        report["models"][name]["threshold"],
    )
    scores, labels = scores_and_labels(folder, "validation", path)
    micro = {t / 100: f1_score(labels, scores >= t / 100, average="micro") for t in range(1, 100)}
    assert micro[threshold] == pytest.approx(max(micro.values()))
    assert report["models"][name]["metrics"]["f1_micro"] == pytest.approx(max(micro.values()), abs=1e-6)
    scores, labels = scores_and_labels(folder, "test", path)
    metrics = report["test"]["metrics"][name]
    assert metrics["f1_micro"] == pytest.approx(f1_score(labels, scores >= threshold, average="micro"), abs=1e-6)
    assert metrics["f1_macro"] == pytest.approx(f1_score(labels, scores >= threshold, average="macro"), abs=1e-6)
    # Scores that are equal but for the order of sums may change places.
    assert metrics["mAP"] == pytest.approx(average_precision_score(labels, scores, average="macro"), abs=0.01)
    for key, value in metrics.items():
        low, high = report["test"]["intervals"][name][key]
        assert low - 1e-6 <= value <= high + 1e-6


def test_the_saved_student_decides_at_its_threshold_in_each_runtime(folder: Path, report: dict, tmp_path: Path) -> None:
    run_dir, threshold = folder / "runs" / "x", report["models"]["student"]["threshold"]
    assert yaml.safe_load((run_dir / "student" / "task.yaml").read_text())["task"]["threshold"] == threshold
    assert AutoConfig.from_pretrained(run_dir / "student").problem_type == "multi_label_classification"
    scores, _ = scores_and_labels(folder, "test", run_dir / "student")
    texts = [json.loads(line)["sentence"] for line in (folder / "lists" / "test.jsonl").read_text().splitlines()]
    write_folder(run_dir, tmp_path / "deployed")
    for predictor in (load(run_dir, "torch"), load(run_dir, "onnxruntime"), load(tmp_path / "deployed")):
        for answer, row in zip(predictor(texts), scores, strict=True):
            assert list(answer["scores"].values()) == pytest.approx(row.tolist(), abs=1e-4)
            assert answer["labels"] == [name for name, score in answer["scores"].items() if score >= threshold]
        metrics = evaluate_file(predictor, str(folder / "lists" / "test.jsonl")).result.metrics
        assert metrics == pytest.approx(report["test"]["metrics"]["student"], abs=0.01)
    theirs = pipeline("text-classification", str(run_dir / "student"), top_k=None)(texts[:1])[0]
    assert {x["label"]: x["score"] for x in theirs} == pytest.approx(load(run_dir)(texts[0])["scores"], abs=1e-4)


def test_the_page_and_the_card_say_it(folder: Path, report: dict) -> None:
    note = f"a label holds from a probability of {report['models']['teacher']['threshold']:.2f} (teacher), "
    assert any(text.startswith(note) for text in report["notes"])
    page = (folder / "runs" / "x" / "report.html").read_text()
    assert note in page
    for section in ("classes", "slices", "calibration", "rows"):
        assert f'id="{section}"' in page, section
    assert 'id="agreement"' not in page, "a row has no single class"
    card = (folder / "runs" / "x" / "student" / "README.md").read_text()
    assert f"A label holds from a probability of {report['models']['student']['threshold']:.2f} on." in card
    assert 0 < report["baseline"]["f1_micro"] < 1


@pytest.mark.parametrize("form", ["texts", "columns"])
def test_each_form_of_the_labels_gives_the_same_student(folder: Path, report: dict, form: str) -> None:
    label = {"task.separator": "'|'"} if form == "texts" else {"task.label": "[thing, praise, blame]"}
    run(folder / "x.yaml", **{"task.data": str(folder / form), "name": form, "export": "null"} | label)
    found = json.loads((folder / "runs" / form / "report.json").read_text())
    assert found["models"]["student"]["metrics"] == pytest.approx(report["models"]["student"]["metrics"])
    assert found["test"]["metrics"] == {
        name: pytest.approx(metrics) for name, metrics in report["test"]["metrics"].items()
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"losses.logits": "{kind: DKD}"}, "losses.logits: compares the classes of one distribution"),
        ({"losses.logits": "{kind: DIST}"}, "losses.logits: compares the classes of one distribution"),
        ({"losses.logits.top_k": "2"}, "losses.logits: compares the classes"),
        ({"losses.labels.class_weights": "{prase: 2.0}"}, "there is no class 'prase'; there are thing, praise, blame"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(folder: Path, given: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(folder / "x.yaml", name="refused", **given)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (folder / "runs" / "refused").exists()


def test_a_teacher_of_one_class_a_row_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in (folder / "teacher").iterdir():
        text = file.read_bytes()
        (tmp_path / file.name).write_bytes(text.replace(b"multi_label_classification", b"single_label_classification"))
    with pytest.raises(ConfigError, match="its outputs are classes of which one holds"):
        run(folder / "x.yaml", name="refused", **{"teacher.model": str(tmp_path)})
