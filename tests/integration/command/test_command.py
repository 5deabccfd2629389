"""The command line: each mistake is told in one line, with the place and the key, and leaves nothing behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from distill.config.schema import schema_of
from distill.experiment.experiment import Experiment
from students.loading.hub import check_hub
from tests.helpers.mistakes.data_and_models import DATA_AND_MODELS
from tests.helpers.mistakes.mistakes import GOOD, IN_FILE, IN_WORDS
from tests.helpers.mistakes.run_length import RUN_LENGTH
from tests.helpers.repositories import save_tiny_bert, sentences
from tests.helpers.runs import train_command
from tests.helpers.tables import write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of two blocks, the same without its tokenizer, one without a head, and rows for several tasks."""
    folder = tmp_path_factory.mktemp("command")
    for name, labels in (
        ("teacher", ["0", "1"]),
        ("wordless", ["0", "1"]),
        ("three", ["a", "b", "c"]),
        ("headless", None),
    ):
        save_tiny_bert(folder / name, layers=2, hidden=24, heads=4, labels=labels)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "wordless" / file).unlink()
    rows = "".join(f"{row['sentence']},{row['label']}\n" for row in sentences(40, 0))
    (folder / "data.csv").write_text(f"text,label\n{rows}")
    (folder / "long.csv").write_text("text,label\n" + f"{'film ' * 200},1\n{'script ' * 200},0\n" * 60)
    words, tags = ["one", "film"], ["DET", "NOUN"]
    answers = {"question": "is it", "context": "one film", "answers": {"text": ["film"], "answer_start": [4]}}
    for name, rows in {
        "speech": [{"tokens": words, "ner_tags": tags}] * 2,
        "untagged": [{"tokens": words, "ner_tags": ["O", "O"]}, {"tokens": words, "ner_tags": ["O"]}],
        "answers": [answers] * 20,
        "elsewhere": [answers, answers | {"answers": {"text": ["film"], "answer_start": [0]}}],
    }.items():
        write(folder / f"{name}.jsonl", rows)
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    for file in (folder / "teacher").iterdir():
        (folder / "broken" / file.name).write_bytes(b"x" if file.suffix == ".safetensors" else file.read_bytes())
    (folder / "taken" / "run").mkdir(parents=True)
    (folder / "taken" / "run" / "config.yaml").write_text("seed: 1\n")
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in the folder, no hub is asked, and what one test leaves behind is not blamed on the next."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    yield
    check_hub.cache_clear()
    shutil.rmtree(folder / "out", ignore_errors=True)


def refused(capsys: pytest.CaptureFixture, words: list[str], message: str) -> None:
    """The command ends with 2 and one line that begins so, and nothing is printed or written."""
    assert train_command(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith(message) and err.endswith("\n") and err.count("\n") == 1, err
    assert "\r" not in err and "Traceback" not in err
    assert out == ""
    assert not Path("out").exists()


def refused_with(capsys: pytest.CaptureFixture, old: str, new: str, message: str) -> None:
    """The same of a good file with one text in the place of another."""
    assert GOOD.count(old) == 1
    Path("x.yaml").write_text(GOOD.replace(old, new))
    refused(capsys, ["--config", "x.yaml"], f"x.yaml:{message}")


@pytest.mark.parametrize(("old", "new", "message"), IN_FILE.values(), ids=IN_FILE.keys())
def test_a_mistake_in_the_file(capsys: pytest.CaptureFixture, old: str, new: str, message: str) -> None:
    refused_with(capsys, old, new, message)


MISMATCHES = DATA_AND_MODELS | RUN_LENGTH


@pytest.mark.parametrize(("old", "new", "message"), MISMATCHES.values(), ids=MISMATCHES.keys())
def test_a_mistake_that_models_and_data_show(capsys: pytest.CaptureFixture, old: str, new: str, message: str) -> None:
    refused_with(capsys, old, new, message)


@pytest.mark.parametrize(("word", "message"), IN_WORDS.items(), ids=IN_WORDS.keys())
def test_a_mistake_in_an_override(capsys: pytest.CaptureFixture, word: str, message: str) -> None:
    Path("x.yaml").write_text(GOOD)
    refused(capsys, ["--config", "x.yaml", word], message)


def test_a_folder_that_holds_a_run(capsys: pytest.CaptureFixture) -> None:
    Path("x.yaml").write_text(GOOD)
    message = (
        "--name: the folder taken/run already holds a run; continue it with --resume, or give this one another --name"
    )
    refused(capsys, ["--config", "x.yaml", "--output=taken", "--name=run"], message)
    assert Path("taken/run/config.yaml").read_text() == "seed: 1\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--config: is missing; name a YAML file"),
        (["--config"], "argument --config: expected one argument"),
        (["--config", "tinybrt.yaml"], "tinybrt.yaml: there is no such file; did you mean 'tinybert.yaml'?"),
        (
            ["--config", "elsewhere/tinybert.yaml"],
            "elsewhere/tinybert.yaml: there is no such file; did you mean 'tinybert.yaml'?",
        ),
        (["--config", "xs.yaml"], "xs.yaml: there is no such file; did you mean 'x.yaml'?"),
        (["--config", "empty"], "empty: is a folder, not a file"),
        (["--config", "teacher/model.safetensors"], "teacher/model.safetensors: is not a text in UTF-8"),
        (["--con", "x.yaml"], "--config: is missing; name a YAML file"),
    ],
)
def test_no_file_to_read(capsys: pytest.CaptureFixture, words: list[str], message: str) -> None:
    Path("x.yaml").write_text(GOOD)
    refused(capsys, words, message)


def test_what_is_no_file_is_not_read(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    refused(capsys, ["--config", str(tmp_path / "pipe.yaml")], f"{tmp_path}/pipe.yaml: is not a regular file")
    refused(capsys, ["--config", str(tmp_path / "loop.yaml")], f"{tmp_path}/loop.yaml: there is no such file")
    refused(capsys, ["--config", "x" * 5000], "xxxx")
    refused(capsys, ["--config", "a\nb"], "a b: there is no such file")
    refused(capsys, ["--config", "a\0b"], "a\\x00b: there is no such file")


@pytest.mark.parametrize(
    "function",
    [
        "distill.training.callbacks.display.quiet.silence_libraries",
        "distill.experiment.runs.read_runs",
        "distill.training.prepare.plan.assemble",
    ],
)
def test_ctrl_c_before_the_first_step_is_a_line(capsys, monkeypatch, function: str) -> None:
    def stop(*args: object, **given: object) -> None:
        raise KeyboardInterrupt

    Path("x.yaml").write_text(GOOD)
    monkeypatch.setattr(function, stop)
    assert train_command(["--config", "x.yaml"]) == 130
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("stopped") and err.count("\n") == 1
    assert not Path("out").exists()


def test_ctrl_c_while_the_command_is_imported_is_a_line(tmp_path: Path) -> None:
    """Where the import of torch would be, the signal comes."""
    (tmp_path / "torch.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n")
    root = Path(__file__).parents[3]
    shown = subprocess.run(
        [sys.executable, str(root / "train.py"), "--config", "quickstart.yaml"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    line = "stopped at once; if steps were made, go on with --resume\n"
    assert (shown.returncode, shown.stdout, shown.stderr) == (130, "", line)


def test_numbers_of_yaml_1_2_and_texts_without_quotes(capsys: pytest.CaptureFixture) -> None:
    Path("x.yaml").write_text(GOOD)
    assert train_command(["--config", "x.yaml", "--print_config", "--optimizer.lr=1E-3", "--name", "2024"]) == 0
    out, err = capsys.readouterr()
    assert "lr: 0.001\n" in out and "name: '2024'\n" in out
    assert err == ""


def test_help_is_printed_whatever_else_is_said(capsys: pytest.CaptureFixture) -> None:
    assert train_command(["--help", "--config", "quickstart.yaml"]) == 0
    out, err = capsys.readouterr()
    sections = list(schema_of(Experiment))
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")][-len(sections) :] == sections
    assert len(out.splitlines()) <= 40 and max(map(len, out.splitlines())) <= 120
    assert err == ""


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("losses", "  HiddenMSE             Squared error of hidden states"),
        ("losses", "  weight: a Schedule [1.0]. the factor of the term"),
        ("losses.Labels", "  smoothing: a number [0.0]. label smoothing, the probability"),
        ("losses.Labels.weight", "  Cubic                 Fast at first and flat at the end"),
        ("student", "  Transformer           A smaller model of the teacher's family"),
        ("teacher", "MovingAverage: The moving average of the student"),
        ("teacher.Teachers.members", "  cache: true or false [false]. store logits"),
        ("task.classification", "  metric: one of accuracy, f1, matthews [accuracy]."),
        ("optimizer.lr", "optimizer.lr: the peak learning rate. (a number)"),
        ("seed", "seed: the seed of initial weights"),
        ("trainer", "  max_epochs: Stop training once this number of epochs"),
    ],
)
def test_help_on_a_topic(capsys: pytest.CaptureFixture, topic: str, message: str) -> None:
    assert train_command(["--help", topic]) == 0
    out, err = capsys.readouterr()
    assert f"\n{message}" in f"\n{out}", out
    assert max(map(len, out.splitlines())) <= 120 and err == ""


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("loses", "--help loses: a config has no 'loses'; did you mean 'losses'?"),
        ("losses.HidenMSE", "--help losses.HidenMSE: losses has no 'HidenMSE'; did you mean 'HiddenMSE'?"),
        ("losses.Logits.tmperature", "--help losses.Logits.tmperature: losses.Logits has no 'tmperature'"),
        ("seed.more", "--help seed.more: seed has no keys"),
    ],
)
def test_a_topic_that_help_does_not_have(capsys: pytest.CaptureFixture, topic: str, message: str) -> None:
    refused(capsys, ["--help", topic], message)


def test_what_the_config_says_is_printed_and_nothing_is_written(capsys: pytest.CaptureFixture) -> None:
    Path("x.yaml").write_text(GOOD)
    assert train_command(["--config", "x.yaml", "--print_config", "--losses.logits.weight=0.5"]) == 0
    first = capsys.readouterr().out
    Path("printed.yaml").write_text(first)
    assert train_command(["--config", "printed.yaml", "--print_config"]) == 0
    assert capsys.readouterr().out == first
    assert "weight: 0.5\n" in first and "name: x\n" in first
    assert not Path("out").exists()
