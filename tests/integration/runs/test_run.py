"""A whole run, small: what it writes, that it resumes bit for bit, that it stops in good order."""

import json
import signal
import time

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill import run
from distill.config.loader import ConfigError
from distill.evaluation.measure import torch_predict
from distill.reporting.page import render
from quant_aware.export.onnx_model import OnnxModel
from tests.helpers.reports.promised import keeps_promises
from tests.helpers.runs import CONFIG, command, interrupted, rows, weights


@pytest.fixture(scope="module")
def finished(materials, tmp_path_factory):
    """The report of one whole run with its pictures, and its folder."""
    folder = tmp_path_factory.mktemp("finished")
    file = folder / "tiny.yaml"
    text = CONFIG.format(data=materials / "data", teacher=materials / "teacher", output=folder / "runs")
    file.write_text(text.replace("target: packed", "target: onnxruntime"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.reporting.publish.render", render)
        return run(file), folder / "runs" / "tiny", file


class TestRunFolder:
    def test_holds_what_others_rely_on(self, finished):
        _, folder, _ = finished
        names = {path.name for path in folder.iterdir()}
        assert names == {
            "config.yaml",
            "metrics.csv",
            "checkpoints",
            "student",
            "student.onnx",
            "report.json",
            "report.html",
            "replicates.json",
        }
        assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}

    def test_report_has_the_agreed_schema(self, finished):
        _, folder, _ = finished
        report = json.loads((folder / "report.json").read_text())
        keeps_promises(report)
        assert report["ratios"] and report["timeline"]
        teacher, student = report["models"]["teacher"], report["models"]["student"]
        assert report["ratios"]["smaller"] == pytest.approx(teacher["bytes"] / student["bytes"])
        assert report["exports"][0]["bytes"] == (folder / "student.onnx").stat().st_size

    def test_metrics_have_a_column_for_everything_that_moves(self, finished):
        _, folder, _ = finished
        table = rows(folder)
        for column in (
            "step",
            "progress",
            "lr",
            "sparsity",
            "bits",
            "val/accuracy",
            "train/logits",
            "train/logits_weight",
        ):
            assert any(row[column] for row in table), column
        assert [row["bits"] for row in table if row["bits"]][:1] == ["32"]
        assert [row["bits"] for row in table if row["bits"]][-1] == "8"

    def test_student_is_pruned_cut_and_loads(self, finished):
        report, folder, _ = finished
        model = AutoModelForSequenceClassification.from_pretrained(folder / "student")
        assert model.dtype == torch.float32
        assert model.config.intermediate_size == 24  # a quarter of 32 neurons is cut for good
        assert model.config.id2label == {0: "negative", 1: "positive"}
        dense = [p for name, p in model.named_parameters() if "query.weight" in name]
        assert float(torch.stack([(p == 0).float().mean() for p in dense]).mean()) == pytest.approx(0.5, abs=0.01)
        assert report.models["student in torch"].nonzero_parameters < report.models["student in torch"].parameters

    def test_export_agrees_with_the_student(self, finished):
        report, folder, _ = finished
        tokenizer = AutoTokenizer.from_pretrained(folder / "student")
        batch = dict(
            tokenizer(["a great film", "a very boring plot with a bland actor"], return_tensors="pt", padding=True)
        )
        model = AutoModelForSequenceClassification.from_pretrained(folder / "student")
        torch.testing.assert_close(
            OnnxModel(folder / "student.onnx")(batch), torch_predict(model)(batch), atol=0.05, rtol=0.05
        )
        assert report.exports[0].agreement >= 0.9
        assert report.parity["folded"] < 1e-5

    def test_checkpoint_holds_no_teacher(self, finished):
        _, folder, _ = finished
        names = weights(folder)
        assert names
        assert {name.split(".")[0] for name in names} == {"student", "losses"}

    def test_projections_are_trained_and_not_exported(self, finished):
        _, folder, _ = finished
        assert any(name.startswith("losses.hidden.projections") for name in weights(folder))
        assert not any(
            "projection" in name
            for name in AutoModelForSequenceClassification.from_pretrained(folder / "student").state_dict()
        )

    def test_printed_config_is_the_one_of_the_folder(self, finished, capsys):
        from tests.helpers.runs import train_command

        _, folder, file = finished
        assert train_command(["--config", str(file), "--print_config"]) == 0
        assert capsys.readouterr().out == (folder / "config.yaml").read_text()

    def test_is_never_overwritten(self, finished):
        _, folder, file = finished
        before = (folder / "report.json").read_text()
        with pytest.raises(ConfigError, match=r"--resume.*--name"):
            run(file)
        assert (folder / "report.json").read_text() == before

    def test_resume_with_another_config_is_refused(self, finished):
        _, _, file = finished
        with pytest.raises(ConfigError, match=r"optimizer\.lr"):
            run(file, resume=True, **{"optimizer.lr": 0.5})


class TestResume:
    """Train 2n steps = train n, stop, resume, train n, bit for bit, in every phase of pruning and quantization,
    with dropout.
    """

    # pruning moves from step 2 to 10, where neurons are cut out; fake quantization starts at 11, hidden losses stop at
    # 8; 8 steps in an epoch
    @pytest.mark.parametrize("stop", [1, 5, 8, 10, 13])
    def test_continues_bit_for_bit(self, finished, tiny_run, monkeypatch, stop):
        _, expected_folder, _ = finished
        interrupted(monkeypatch, stop, tiny_run)
        interrupted(monkeypatch, 16, tiny_run, resume=True)
        folder = tiny_run.parent / "runs" / "tiny"
        expected, actual = weights(expected_folder), weights(folder)
        assert expected.keys() == actual.keys()
        assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []
        assert rows(folder) == rows(expected_folder)


def test_ctrl_c_writes_a_checkpoint_and_exits_130(tiny_run):
    process = command(tiny_run, "--trainer.max_epochs=500", "--quantize.start=99%")
    metrics = tiny_run.parent / "runs" / "tiny" / "metrics.csv"
    until = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        assert process.poll() is None and time.monotonic() < until, process.stdout.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 130, output
    assert "--resume" in output and "Traceback" not in output
    assert torch.load(metrics.parent / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0


@pytest.mark.parametrize("count", [2, 5])
def test_a_handful_of_rows_is_a_run(tiny_run, tmp_path, count):
    """Of two rows and of five a single one is held out."""
    (tmp_path / "few.csv").write_text("text,label\n" + "".join(f"film {i},{i % 2}\n" for i in range(count)))
    given = {"losses": {"logits": {"kind": "Logits"}}, "prune": None, "quantize": None}
    report = run(tiny_run, **given, **{"task.data": str(tmp_path / "few.csv")})
    assert report.timeline[0]["stop_step"] == 2
    assert set(report.models["student"].latency_ms) == {"batch_1", "batch_32"}
