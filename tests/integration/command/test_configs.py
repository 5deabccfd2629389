"""Every shipped config names the hub alone and is run, whole, against a stand-in of it; those of our own measurements
are read and printed."""

import csv
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers.reports.promised import keeps_promises
from tests.helpers.repositories import save_conll, save_squad, save_sst2, save_stsb, save_tiny_bert, save_tiny_reader
from tests.helpers.runs import train_command
from tests.helpers.servers.hub import Hub

ROOT = Path(__file__).parents[3]
SHIPPED = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))
MEASURED = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks" / "configs").rglob("*.yaml"))
TEACHER, GENERAL, BLANK, CASED, MINILM, READER = (
    "textattack/bert-base-uncased-SST-2",
    "huawei-noah/TinyBERT_General_4L_312D",
    "google-bert/bert-base-uncased",
    "google-bert/bert-base-cased",
    "sentence-transformers/all-MiniLM-L6-v2",
    "distilbert/distilbert-base-uncased-distilled-squad",
)
MADE_BY_ITS_COMMAND = "quickstart.yaml"
"""Its data and teacher are made by `make quickstart`, which test_readme.py runs."""
OVERRIDES = {
    "answers.yaml": ["--task.max_length=128"],
    "entities.yaml": ["--trainer.max_epochs=10", "--optimizer.lr=1e-2"],  # a teacher has to beat a constant prediction
    "similarity.yaml": [],
    "sst2.yaml": [],
    "finetune.yaml": [],
    "tinybert.yaml": [],
    "assistant.yaml": [],
    "distilbert.yaml": [],
    "albert.yaml": ["--student.embeddings.rank=16"],  # the stand-in of the teacher is no wider than 96
    "lowrank-local.yaml": [],
    "minilm.yaml": [
        "--student.hidden=48",
        "--student.intermediate=96",
    ],  # the stand-in of the teacher is no wider than 96
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """The names that the configs use, with the depths of the real ones, and rows for two steps in an epoch."""
    root = tmp_path_factory.mktemp("hub")
    save_tiny_bert(root / "models" / TEACHER, layers=12, hidden=96, heads=12, labels=["LABEL_0", "LABEL_1"])
    save_tiny_bert(root / "models" / GENERAL, layers=4, hidden=24, heads=12)
    save_tiny_bert(root / "models" / BLANK, layers=12, hidden=24, heads=4)
    save_tiny_bert(root / "models" / CASED, layers=12, hidden=24, heads=4)
    save_tiny_bert(root / "models" / MINILM, layers=6, hidden=24, heads=12)
    save_tiny_reader(root / "models" / READER, layers=6, hidden=24, heads=4)
    save_sst2(root / "datasets" / "nyu-mll" / "glue", rows=64)
    save_stsb(root / "datasets" / "nyu-mll" / "glue", rows=64)
    save_conll(root / "datasets" / "lhoestq" / "conll2003", rows=32)
    save_squad(root / "datasets" / "rajpurkar" / "squad", rows=32)
    with Hub(root) as hub:
        yield hub


def printed(capsys: pytest.CaptureFixture, config: str) -> str:
    """The output of ``--print_config``."""
    assert train_command(["--config", config, "--print_config"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def is_complete(text: str, file: Path) -> bool:
    """Whether what was printed has each run of a file, and all that the file says."""
    printed_runs, runs = list(yaml.safe_load_all(text)), list(yaml.safe_load_all(file.read_text()))
    return all(
        full["name"] == short.get("name", file.stem)
        and full["losses"].keys() == short["losses"].keys()
        and full["trainer"].items() >= short.get("trainer", {}).items()
        and len(yaml.safe_dump(full).splitlines()) > 2 * len(short)
        for full, short in zip(printed_runs, runs, strict=True)
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_is_read_and_prints_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    text = printed(capsys, name)
    assert printed(capsys, name.removesuffix(".yaml")) == text, "the ending may be left out"
    Path("again.yaml").write_text(text)
    assert printed(capsys, "again.yaml") == text
    assert is_complete(text, ROOT / "configs" / name)


@pytest.mark.parametrize("name", MEASURED)
def test_a_config_of_a_measurement_is_read(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(ROOT)
    assert is_complete(printed(capsys, name), ROOT / name)


@pytest.mark.parametrize("name", [*(f"configs/{name}" for name in SHIPPED), *MEASURED])
def test_a_config_says_what_it_is(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert lines[0].startswith("# "), "the first line says what the run is"
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 130


@pytest.mark.parametrize("folder", ["configs", *sorted({str(Path(name).parent) for name in MEASURED})])
def test_a_folder_of_configs_has_at_most_twelve(folder: str) -> None:
    assert len(list((ROOT / folder).iterdir())) <= 12


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_shipped_config_names_the_hub_and_its_own_runs(name: str) -> None:
    runs = list(yaml.safe_load_all((ROOT / "configs" / name).read_text()))
    own = {f"runs/{run.get('name')}" for run in runs}
    students = [run["student"] for run in runs if isinstance(run["student"], str)]
    teachers = [run["teacher"] for run in runs if "teacher" in run]
    models = {teacher["model"] if isinstance(teacher, dict) else teacher for teacher in teachers} | {*students}
    names = {run["task"]["data"] for run in runs} | models - own
    assert [name for name in names if not re.fullmatch(r"[\w-]+/[\w.-]+(/\w+)?", name)] == []
    assert not any(name.startswith(("runs/", "..")) for name in names)


def test_every_shipped_config_is_run() -> None:
    assert sorted([*OVERRIDES, MADE_BY_ITS_COMMAND]) == SHIPPED


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "tinybert.yaml" else [pytest.mark.slow]) for name in OVERRIDES]
)
def test_a_config_of_the_hub_runs_to_its_report(name: str, hub: Hub, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "train.py",
        "--config",
        name,
        f"--output={tmp_path}",
        "--trainer.accelerator=cpu",
        *OVERRIDES[name],
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=hub.environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    runs = list(yaml.safe_load_all((ROOT / "configs" / name).read_text()))
    stem = runs[-1].get("name", name.removesuffix(".yaml"))
    folder = tmp_path / stem
    assert all((tmp_path / ended["name"] / "report.html").exists() for ended in runs[:-1])
    report = json.loads((folder / "report.json").read_text())
    keeps_promises(report)
    assert (report["name"], report["task"]) == (stem, runs[-1]["task"]["name"])
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert all(entry["stop_step"] <= 2 * config["trainer"]["max_epochs"] for entry in report["timeline"])
    assert bool(report["exports"]) == bool(config["quantize"])
    others = {"teacher in onnxruntime", "student in torch", "student in bfloat16"}  # beside an exported file
    models = [model for model in report["models"] if model not in others]
    assert models == (["student"] if name == "finetune.yaml" else ["teacher", "student"])
    results = [report["models"][model]["metrics"][report["main_metric"]] for model in models]
    assert all(-1 <= result <= 1 or math.isnan(result) for result in results)
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for loss in config["losses"]:
        assert any(row[f"train/{loss}"] for row in rows), f"no value of {loss} in metrics.csv"
    assert (folder / "report.html").stat().st_size > 1000
    assert (folder / "student" / "model.safetensors").exists() and (folder / "student" / "tokenizer.json").exists()
    assert (folder / "checkpoints" / "best.ckpt").exists()
