"""A tracker that cannot start: one line, exit code 2, and nothing left that blocks the next try."""

import re
from pathlib import Path

import pytest
import wandb
import yaml

from distill import ConfigError, run
from distill.experiment.runs import read_runs
from distill.training.callbacks.trackers.tracker import Results
from distill.training.callbacks.trackers.weights_and_biases import WandbTracker
from tests.helpers.runs import ROOT, command, rows, train_command
from tests.integration.runs.tracking.written import all_records

LINE = "tracking.wandb: not logged in; run `wandb login`, or set WANDB_MODE=offline\n"


@pytest.fixture
def online(monkeypatch):
    """W&B is to be used, and nobody is logged in."""
    wandb.teardown()  # it has read the environment of earlier tests
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere/netrc")
    yield
    wandb.teardown()


@pytest.mark.parametrize("verb", [[], ["--check"]])
def test_without_a_login_there_is_a_line_and_no_folder(tiny_run, online, capsys, verb):
    """Whatever the terminal is: it does not ask."""
    assert train_command(["--config", str(tiny_run), "--tracking.wandb=testing", *verb]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.endswith(LINE) and err.count("\n") == 1
    assert not (tiny_run.parent / "runs").exists()


def test_with_a_login_or_without_the_network_it_is_not_asked_for(tiny_run, online, monkeypatch):
    asked = []
    monkeypatch.setattr(wandb, "login", lambda prompt: asked.append(prompt) or True)
    arguments = ["--config", str(tiny_run), "--tracking.wandb=testing", "--check"]
    assert train_command(arguments) == 0 and asked == [False]
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert train_command(arguments) == 0 and asked == [False]


def test_a_logger_that_fails_to_start_leaves_nothing(tiny_run, monkeypatch, capsys):
    """As W&B does with a wrong key, or without a network."""
    monkeypatch.setenv("WANDB_MODE", "offline")

    def fail(dir, **given):
        (Path(dir) / "wandb").mkdir()
        raise wandb.errors.CommError("permission\ndenied")

    with monkeypatch.context() as patch:
        patch.setattr(wandb, "init", fail)
        assert train_command(["--config", str(tiny_run), "--tracking.wandb=testing", "--display=quiet"]) == 2
    line = "--tracking.wandb: fails with CommError: permission denied\n"
    assert capsys.readouterr() == ("", line)
    assert not (tiny_run.parent / "runs" / "tiny").exists()
    assert run(tiny_run, display="quiet")


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), OSError(28, "No space left on device")])
def test_any_failure_before_the_first_step_leaves_nothing(tiny_run, monkeypatch, capsys, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("distill.training.module.Distillation.training_step", fail)
        assert train_command(["--config", str(tiny_run), "--tracking.tensorboard=true"]) in (1, 2)
    assert capsys.readouterr().err.endswith("; nothing was written yet\n")
    assert not (tiny_run.parent / "runs" / "tiny").exists()
    assert run(tiny_run, display="quiet")


def test_a_failure_after_it_leaves_the_run(tiny_run, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("of the export")

    monkeypatch.setattr("distill.runner.export", fail)
    assert train_command(["--config", str(tiny_run)]) == 1
    assert capsys.readouterr().err.endswith("; go on with --resume\n")
    assert (tiny_run.parent / "runs" / "tiny" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("name", ["wandb", "tensorboard", "mlflow", "trackio"])
def test_a_package_that_is_not_installed_is_named_in_a_line(tiny_run, monkeypatch, name):
    monkeypatch.setattr("distill.experiment.monitoring.find_spec", lambda package: None)
    value = True if name == "tensorboard" else "testing"
    with pytest.raises(ConfigError, match=rf"tracking\.{name}: is not installed; `pip install {name}`$"):
        run(tiny_run, tracking={name: value})
    assert not (tiny_run.parent / "runs").exists()


def test_a_project_without_a_name_is_refused(tiny_run):
    with pytest.raises(ConfigError, match=r"tracking\.mlflow: needs a name; null switches it off"):
        run(tiny_run, tracking={"mlflow": ""})


class Recorder:
    """A run of W&B that has a network."""

    id, url = "abc", "https://wandb.ai/x"

    def __init__(self):
        self.inputs, self.outputs, self.summary = [], [], {}

    def use_artifact(self, artifact, type=None):
        """Refuse a name, as a server does that has no such artifact."""
        if isinstance(artifact, str) and "untracked" in artifact:
            raise wandb.errors.CommError("not found")
        self.inputs.append(artifact)

    def log_artifact(self, artifact):
        """Keep it."""
        self.outputs.append(artifact.name)

    def log(self, row):
        """Do nothing."""

    define_metric = finish = lambda self, *given, **named: None


def test_the_lineage_goes_from_the_teachers_to_the_student_and_its_exports(tiny_run, online, monkeypatch, tmp_path):
    recorder = Recorder()
    monkeypatch.setattr(wandb, "init", lambda **given: recorder)
    members = {}
    for name, tracked in (("big", True), ("untracked", True), ("plain", False)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("weights")
        members[name] = str(tmp_path / name)
        if tracked:
            (tmp_path / name / "wandb_id").write_text("1")
    teachers = {"teacher": {"members": members | {"hub": "some/model"}}}
    (config,) = read_runs(tiny_run, teachers | {"losses.hidden": None, "losses.relations": None})
    folder = tmp_path / "run"
    (folder / "student").mkdir(parents=True)
    (folder / "student" / "config.json").write_text("{}")
    (folder / "student.onnx").write_text("onnx")
    tracker = WandbTracker("testing", config.value, folder, [])
    assert tracker.describe() == "wandb: https://wandb.ai/x"
    export = {"format": "onnx", "path": "student.onnx"}
    models = {"student": {"bytes": 1}}
    report = {"name": "my run", "task": "x", "models": models, "ratios": {}, "exports": [export], "timeline": []}
    tracker.log_results(Results(report, {}, folder))
    assert recorder.outputs == ["my-run-student", "my-run-onnx"]
    assert [used for used in recorder.inputs if isinstance(used, str)] == ["big-student:latest"]
    references = [used for used in recorder.inputs if not isinstance(used, str)]
    assert len(references) == 3
    addresses = {entry.ref for reference in references for entry in reference.manifest.entries.values()}
    local = {(tmp_path / name / "model.safetensors").as_uri() for name in ("untracked", "plain")}
    assert addresses > local | {"https://huggingface.co/some/model"}


@pytest.mark.slow
def test_two_processes_make_one_run(tiny_run):
    pytest.importorskip("tensorboard")
    given = ["--trainer.devices=2", "--trainer.strategy=ddp", "--tracking.wandb=testing", "--tracking.tensorboard=true"]
    process = command(tiny_run, *given, WANDB_MODE="offline")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    folder = tiny_run.parent / "runs" / "tiny"
    (path,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    history = [record for record in all_records(path) if record.WhichOneof("record_type") == "history"]
    curves = [row for row in rows(folder) if row["loss"]]
    assert len(history) == len(rows(folder)) + 2 and len(curves) == 16  # two of tables and pictures
    assert len([line for line in out.splitlines() if line.startswith("step 1/16")]) == 1


def test_the_sweep_of_the_documentation_is_one_of_this_command(tiny_run, monkeypatch):
    """Each of its parameters is a key, its metric is a curve, and each run gets a folder of its own."""
    text = (ROOT / "docs" / "usage.md").read_text()
    sweep = yaml.safe_load(re.search(r"```yaml\n(# sweep\.yaml\n.*?)```", text, re.S)[1])
    for end in ("min", "max"):
        values = {
            key: setting["values"][0 if end == "min" else -1] if "values" in setting else setting[end]
            for key, setting in sweep["parameters"].items()
        }
        (config,) = read_runs(tiny_run, {key: str(value) for key, value in values.items()})
    assert sweep["metric"]["name"] == f"val/{config.value.task.main_metric}"
    assert config.value.task.metric_mode == sweep["metric"]["goal"][:3]
    shell, flag, script, *rest = sweep["command"]
    assert (shell, flag, rest) == ("bash", "-c", ["sweep", "${args}"])
    assert "--name=sweep-$WANDB_RUN_ID" in script and '"$@"' in script and "--tracking.wandb" in script
