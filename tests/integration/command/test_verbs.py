"""The verbs on a finished run, as a person types them."""

import csv
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import pipeline

from distill import load, run
from distill.command.main import main
from distill.evaluation.measure import Latency
from distill.reporting.summary import summary_sentence
from tests.helpers.repositories import save_tiny_bert, sentences
from tests.helpers.servers.hub import Hub
from tests.helpers.tables import write

ROOT = Path(__file__).parents[3]
LABELS = ["negative", "positive"]
CONFIG = """
task: {name: classification, data: data.csv, max_length: 32, batch_size: 8}
teacher: {model: teacher, check: false}
student: {kind: Transformer, layers: 1}
losses: {logits: {kind: Logits}}
export: onnx
trainer: {max_epochs: 1, accelerator: cpu}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a teacher and a finished run."""
    folder = tmp_path_factory.mktemp("verbs")
    save_tiny_bert(folder / "teacher", layers=2, hidden=24, heads=4, labels=LABELS)
    (folder / "teacher" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    with open(folder / "data.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["text", "label"], *([row["sentence"], LABELS[row["label"]]] for row in sentences(60, 0))]
        )
    (folder / "x.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("x.yaml")
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def given_rows() -> list[dict[str, str]]:
    with open("data.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_predict_prints_a_line_of_json_for_each_text(capsys: pytest.CaptureFixture) -> None:
    texts = ["a fine film", "one dull script, and more"]
    assert main(["predict", "runs/x", *texts]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"text": text} | answer for text, answer in zip(texts, load("runs/x")(texts), strict=True)]


def test_predict_writes_a_file_with_a_row_for_each_row(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert main(["predict", "runs/x", "--file", "data.csv", "--output", str(tmp_path / "out.csv")]) == 0
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [row["text"] for row in given_rows()]
    assert {row["label"] for row in rows} <= set(LABELS) and set(rows[0]) == {"text", "label", "score", "scores"}
    assert capsys.readouterr().out == ""


def test_predict_reads_what_spreadsheets_write(tmp_path: Path) -> None:
    """A byte order mark, semicolons, quotes, a line break within a text, and columns that are not read."""
    (tmp_path / "in.csv").write_bytes('\ufeffid;text\r\n1;"a fine\nfilm; ""good"""\r\n2;dull\r\n'.encode())
    words = ["predict", "runs/x", "--file", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv")]
    assert main(words) == 0
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    texts = ['a fine\nfilm; "good"', "dull"]
    assert [row["text"] for row in rows] == texts
    assert [row["label"] for row in rows] == [answer["label"] for answer in load("runs/x")(texts)]


def test_predict_names_the_line_of_an_empty_text(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "in.csv").write_text('text\n"a\nfilm"\n""\nb\n')
    assert main(["predict", "runs/x", "--file", str(tmp_path / "in.csv")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'in.csv'}:4: 'text' is empty\n"


def test_evaluate_counts_as_the_report_does(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """The held-out rows of the run are those that its report counts."""
    assert main(["evaluate", "runs/x", "data.csv", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    rows = given_rows()
    answers = load("runs/x")([row["text"] for row in rows])
    right = sum(answer["label"] == row["label"] for answer, row in zip(answers, rows, strict=True))
    assert facts["rows"] == 60 and facts["metrics"]["accuracy"] == pytest.approx(right / 60)
    low, high = facts["intervals"]["accuracy"]
    assert low < right / 60 < high


def test_evaluate_counts_rows_of_one_class_right(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """Where the rows lack a class of the run, its outputs still mean what they meant."""
    rows = [row for row in given_rows() if row["label"] == "positive"]
    write(tmp_path / "positive.jsonl", rows)
    assert main(["evaluate", "runs/x", str(tmp_path / "positive.jsonl"), "--json"]) == 0
    answers = load("runs/x")([row["text"] for row in rows])
    expected = sum(answer["label"] == "positive" for answer in answers) / len(rows)
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"] == pytest.approx(expected)


def test_bench_measures_each_runtime(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    latency = Latency(1.5, [1.0, 2.0])
    measured = "distill.export.serving.latency.measure_latencies"
    monkeypatch.setattr(measured, lambda models, batches, seconds: dict.fromkeys(models, latency))
    assert main(["bench", "runs/x", "--batch_sizes", "1", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latency_ms"] == {
        name: {"1": {"median": 1.5, "spread": [1.0, 2.0]}, "4": {"median": 1.5, "spread": [1.0, 2.0]}}
        for name in ("runs/x/student.onnx", "runs/x/student")
    }
    assert main(["bench", "runs/x", "--batch_sizes", "1"]) == 0
    assert "1.5 (1 to 2)" in capsys.readouterr().out


def test_export_writes_what_plain_transformers_and_this_library_load(tmp_path: Path, capsys) -> None:
    assert main(["export", "runs/x", str(tmp_path / "deployed")]) == 0
    names = {path.relative_to(tmp_path / "deployed").as_posix() for path in (tmp_path / "deployed").rglob("*.*")}
    assert {"model.safetensors", "tokenizer.json", "README.md", "task.yaml", "onnx/model.onnx"} <= names
    answer = load(tmp_path / "deployed")("a fine film")
    (expected,) = pipeline("text-classification", str(tmp_path / "deployed"))("a fine film")
    assert answer["label"] == expected["label"] and answer["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert main(["export", "runs/x", str(tmp_path / "deployed")]) == 2
    assert "is not empty; name a new folder" in capsys.readouterr().err


def test_the_folder_can_be_read_by_others() -> None:
    """safetensors makes files that only the owner may read."""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path("runs/x").rglob("*") if path.is_file()}
    mask = os.umask(0)
    os.umask(mask)
    assert {name: oct(mode) for name, mode in modes.items() if mode != 0o666 & ~mask} == {}


def test_the_model_card_says_what_it_is_and_carries_the_licence() -> None:
    card = Path("runs/x/student/README.md").read_text()
    metadata = yaml.safe_load(card.split("---")[1])
    report = json.loads(Path("runs/x/report.json").read_text())
    assert metadata["license"] == "apache-2.0" and metadata["pipeline_tag"] == "text-classification"
    assert f"{report['models']['student']['metrics']['accuracy']:.4f}" in card
    assert summary_sentence(report) in card
    assert "data: data.csv, train, 54 rows" in card and all(warning in card for warning in report["warnings"])


def test_the_code_of_the_model_card_runs(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("runs")
    snippets = re.findall(r"```python\n(.*?)```", Path("x/student/README.md").read_text(), re.DOTALL)
    assert len(snippets) == 3
    for snippet in snippets:
        exec(snippet, {})
    assert "label" in capsys.readouterr().out


def test_push_uploads_what_is_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    words = [sys.executable, "-m", "distill", "push", "runs/x", "me/tiny"]
    with Hub(tmp_path) as hub:
        environment = hub.environment | {"PYTHONPATH": str(ROOT)}
        refused = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "hf auth login" in refused.stderr
        environment |= {"HF_TOKEN": "hf_x", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{hub.endpoint}/me/tiny"
        assert (tmp_path / "models/me/tiny/onnx/model.onnx").read_bytes() == Path("runs/x/student.onnx").read_bytes()
        code = (
            "from transformers import pipeline; print(pipeline('text-classification', 'me/tiny')('a film')[0]['label'])"
        )
        loaded = subprocess.run([sys.executable, "-c", code], env=hub.environment, capture_output=True, text=True)
        assert loaded.stdout.strip() in LABELS, loaded.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predct"], "distill: 'predct' is not a verb; did you mean 'predict'?"),
        (["predict", "runs/x"], "distill predict: give texts, or a file with --file"),
        (["predict", "runs/y", "a"], "runs/y: there is no such folder"),
        (["predict", "runs/x", "--file", "nowhere.csv"], "nowhere.csv is not a file"),
        (["predict", "runs/x", "--file", "x.yaml"], "x.yaml is not one of .parquet"),
        (["predict", "runs/x", "a", "--runtme=torch"], "--runtme=torch: is not an option of this verb"),
        (["predict", "runs/x", "a", "--batch_size", "0"], "argument --batch_size: '0' is not a number from 1 on"),
        (["evaluate", "runs/x", "teacher/tokenizer.json"], "teacher/tokenizer.json"),
        (["compare", "teacher"], "teacher: no finished run"),
        (["compare", "runs/x", "--max_bytes", "ten"], "argument --max_bytes: 'ten' is not a size, as 10MB"),
        (["export", "runs"], "distill export: the following arguments are required: folder"),
        (
            ["train", "x.yaml", "--epochs", "1"],
            "--epochs: Experiment has no 'epochs'; did you mean --trainer.max_epochs?",
        ),
        (["train", "x.yaml", "--lr=1"], "--lr: Experiment has no 'lr'; did you mean --optimizer.lr?"),
    ],
)
def test_a_mistake_is_a_line(capsys: pytest.CaptureFixture, words: list[str], message: str) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith(message) and err.count("\n") == 1 and out == "", err


def test_verbs_are_listed_and_each_has_help(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    names = [path.stem for path in (ROOT / "distill/command/verbs").glob("*.py") if path.stem != "__init__"]
    for name in names:
        assert f"\n  {name} " in listed
        assert main([name, "--help"]) == 0
        assert capsys.readouterr().out
    assert len(listed.splitlines()) == len(names) + 4


def test_init_writes_a_config_that_the_other_verbs_take(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    words = ["--model", "teacher", "--data", "data.csv", "--target", "cpu"]
    assert main(["init", str(tmp_path / "new.yaml"), *words]) == 0
    assert f"distill train {tmp_path / 'new.yaml'}" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "new.yaml"), "--teacher={model: teacher, check: false}"]) == 0
    assert main(["init", str(tmp_path / "new.yaml"), *words]) == 2
    assert main(["init", str(tmp_path / "other.yaml"), *words[:4], "--target", "toaster"]) == 2
    assert "'toaster' is not one of cpu, gpu, browser" in capsys.readouterr().err
