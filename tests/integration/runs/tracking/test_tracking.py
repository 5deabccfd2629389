"""Trackers: what a run logs is read back from what they wrote; offline, as nothing here has a network."""

from pathlib import Path

import pytest
import wandb

from distill import run
from tests.helpers.runs import CONFIG, interrupted, rows
from tests.integration.runs.tracking.written import all_records, items, stand_in_trackio

FROZEN = {"optimizer.freeze": {"bert.embeddings.position_embeddings.*": "20%"}}
"""A key that is a pattern, as not every tracker takes it."""
TRACKING = {"wandb": "testing", "tensorboard": True, "mlflow": "testing", "trackio": "testing"}


@pytest.fixture(scope="module")
def logged(materials, tmp_path_factory):
    """A run of 16 steps with all trackers, stopped after 10 steps and resumed."""
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("tracked")
    file = folder / "tiny.yaml"
    file.write_text(CONFIG.format(data=materials / "data", teacher=materials / "teacher", output=folder / "runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        trackio = stand_in_trackio(patch)
        interrupted(patch, 10, file, tracking=TRACKING, **FROZEN)
        report = run(file, resume=True, tracking=TRACKING, display="quiet", **FROZEN)
    return report, trackio


def curve(folder: Path, column: str) -> dict[int, float]:
    """The values of a column of metrics.csv by step."""
    return {int(row["step"]): float(row[column]) for row in rows(folder) if row[column]}


def wandb_records(folder: Path) -> list:
    """The records of both sittings."""
    paths = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime)
    assert len(paths) == 2
    return [record for path in paths for record in all_records(path)]


def test_weights_and_biases_has_config_curves_tables_pictures_and_models(logged):
    report, _ = logged
    records = wandb_records(report.folder)
    history = [items(record.history.item) for record in records if record.WhichOneof("record_type") == "history"]
    points = {row["trainer/global_step"]: row["train/logits"] for row in history if "train/logits" in row}
    assert points == pytest.approx(curve(report.folder, "train/logits"))
    points = {row["trainer/global_step"]: row["val/accuracy"] for row in history if "val/accuracy" in row}
    assert points == pytest.approx(curve(report.folder, "val/accuracy"))
    tables = {key.split("/")[1] for row in history for key in row if key.startswith("tables/")}
    assert tables == {"models", "exports", "timeline"}
    pictures = {key.split("/")[1] for row in history for key in row if key.startswith("pictures/")}
    assert pictures == {"curves", "layers", "agreement"}
    start, again = (record.run for record in records if record.WhichOneof("record_type") == "run")
    config = items(start.config.update)
    assert config["quantize"]["weights"] == 8
    assert config["losses"]["logits"]["kind"] == "Logits"
    assert config["timeline"][0]["what"] == report.timeline[0]["what"]
    assert start.project == "testing" and start.display_name == "tiny"
    assert start.run_id == again.run_id == (report.folder / "wandb_id").read_text(), "resuming made a second run"
    summary = [items(record.summary.update) for record in records if record.WhichOneof("record_type") == "summary"]
    merged = {key: value for part in summary for key, value in part.items()}
    assert merged["retained"] == pytest.approx(report.ratios["retained"])
    metrics = {
        record.metric.name or record.metric.glob_name: record.metric for record in records if record.metric.ByteSize()
    }
    assert metrics["*"].step_metric == "trainer/global_step" == metrics["val/accuracy"].step_metric
    assert metrics["val/accuracy"].summary.max


def test_weights_and_biases_has_the_models_and_what_they_are_made_from(logged):
    report, _ = logged
    artifacts = {
        record.artifact.name: record.artifact
        for record in wandb_records(report.folder)
        if record.WhichOneof("record_type") == "artifact" and record.artifact.type == "model"
    }
    (export,) = report.exports
    assert set(artifacts) == {"tiny-student", f"tiny-{export.format}"}
    files = {entry.path for entry in artifacts["tiny-student"].manifest.contents}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= files
    assert "teacher" in artifacts["tiny-student"].metadata
    assert '"made_from":["tiny-student"]' in artifacts[f"tiny-{export.format}"].metadata


def test_tensorboard_has_them_at_their_steps(logged):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report, _ = logged
    events = EventAccumulator(str(report.folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert "hp_metric" not in tags["scalars"]
    for name in ("loss", "train/logits", "train/hidden_weight", "sparsity", "bits", "val/accuracy"):
        assert {event.step: event.value for event in events.Scalars(name)} == pytest.approx(curve(report.folder, name))
    assert len(events.Scalars("loss")) == 16, "the resumed run has steps twice"
    assert {"pictures/curves", "pictures/layers", "pictures/agreement"} == set(tags["images"])
    assert {"config/text_summary", "tables/models/text_summary"} <= set(tags["tensors"])


def test_mlflow_has_one_run_with_all_of_it(logged):
    from mlflow.tracking import MlflowClient

    report, _ = logged
    client = MlflowClient(f"sqlite:///{report.folder.parent}/.mlflow/mlflow.db")
    (entry,) = client.search_runs([client.get_experiment_by_name("testing").experiment_id])
    assert entry.info.run_name == "tiny" and entry.info.status == "FINISHED"
    history = client.get_metric_history(entry.info.run_id, "train/logits")
    assert {metric.step: metric.value for metric in history} == pytest.approx(curve(report.folder, "train/logits"))
    assert entry.data.params["losses/logits/kind"] == "Logits"
    assert entry.data.params["optimizer/freeze/bert.embeddings.position_embeddings._"] == "20%"
    assert entry.data.metrics["report/retained"] == pytest.approx(report.ratios["retained"])
    artifacts = {file.path for file in client.list_artifacts(entry.info.run_id)}
    assert artifacts == {"config.yaml", "timeline.json", "tables", "pictures", "report.html", "student", "exports"}


def test_trackio_has_one_run_with_its_curves(logged):
    report, trackio = logged
    (entry,) = trackio.runs
    points = {step: row["train/logits"] for step, row in entry.rows if "train/logits" in row}
    assert points == pytest.approx(curve(report.folder, "train/logits"))
    assert entry.config["quantize"]["weights"] == 8 and entry.is_finished
    step, last = entry.rows[-1]
    assert step is None and last["report/retained"] == pytest.approx(report.ratios["retained"])
    assert last["tables/models"]["columns"][0] == "model"


@pytest.fixture
def offline(tiny_run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tiny_run


def test_each_run_of_a_process_has_its_own_entry_and_leaves_those_of_others(offline):
    with wandb.init(project="somebody", mode="offline", dir=offline.parent) as theirs:
        reports = [run(offline, name=name, tracking={"wandb": "testing"}, display="quiet") for name in ("one", "two")]
        theirs.log({"still": "open"})
    ids = [(report.folder / "wandb_id").read_text() for report in reports]
    assert len({*ids, theirs.id}) == 3


def test_a_sweep_gives_the_id(offline, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "swept1")
    report = run(offline, tracking={"wandb": "testing"}, display="quiet")
    assert (report.folder / "wandb_id").read_text() == "swept1"


@pytest.mark.parametrize("method", ["write_metrics", "log_results"])
def test_a_tracker_that_fails_does_not_end_the_run(tiny_run, monkeypatch, capsys, method):
    """A server that is down, or a library's fault, after hours of training."""
    trackio = stand_in_trackio(monkeypatch)
    from distill.training.callbacks.trackers.trackio import TrackioTracker

    def fail(self, *given):
        raise ConnectionError("the server\nis down")

    monkeypatch.setattr(TrackioTracker, method, fail)
    report = run(tiny_run, tracking={"trackio": "testing"}, display="quiet")
    line = "tracking.trackio has stopped, the run goes on: ConnectionError: the server is down"
    assert capsys.readouterr().err == f"warning: {line}\n"
    assert (line in report.notes) == (method == "write_metrics")
    assert trackio.runs[0].is_finished


def test_an_error_of_our_own_table_still_ends_the_run(tiny_run, monkeypatch):
    monkeypatch.setattr("distill.training.callbacks.metrics_csv.MetricsCSV.log_metrics", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tiny_run, display="quiet")
