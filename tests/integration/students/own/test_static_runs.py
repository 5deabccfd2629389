"""Whole runs with static models: distilled and rounded, cut vocabularies, numbers, resumed, as teachers."""

from pathlib import Path

import numpy
import onnxruntime
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError
from quant_aware.export.packed import load
from tests.helpers.runs import resumes_bit_for_bit, rows
from tests.helpers.worlds import save_data, save_teacher

CONFIG = """\
task: {{name: classification, data: {data}, max_length: 32, batch_size: 8}}
teacher: {teacher}
student: {{kind: Static, width: 16, hidden: 12}}
losses: {{logits: {{kind: LogitsMSE}}}}
quantize: {{start: 70%}}
optimizer: {{lr: 5e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {output}
"""


@pytest.fixture
def static_run(materials, tmp_path) -> Path:
    """The config file of a run of 16 steps."""
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG.format(data=materials / "data", teacher=materials / "teacher", output=tmp_path / "runs"))
    return file


def test_distilled_and_rounded_it_runs_in_onnxruntime_and_teaches_the_next(static_run, one_thread):
    report = run(static_run)
    losses = [float(row["train/logits"]) for row in rows(report.folder) if row["train/logits"]]
    assert losses[-1] < 0.97 * losses[0]
    (export,) = report.exports
    assert export.agreement == 1.0 and export.largest_difference < 1e-4
    assert report.parity["folded"] < 1e-5
    model = AutoModelForSequenceClassification.from_pretrained(report.folder / "student").eval()
    assert model.config.model_type == "static" and model.config.id2label == {0: "negative", 1: "positive"}
    next_report = run(
        static_run, name="next", teacher=str(report.folder), student={"kind": "Static", "width": 4, "hidden": 0}
    )
    assert next_report.models["teacher"].metrics == report.models["student in torch"].metrics


def test_a_float_graph_gives_the_logits_of_the_saved_model_whatever_the_padding(static_run):
    report = run(static_run, quantize=None, export="onnx")
    model = AutoModelForSequenceClassification.from_pretrained(report.folder / "student").eval()
    session = onnxruntime.InferenceSession(report.folder / "student.onnx")
    ids = torch.randint(5, 30, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(9) < torch.tensor([9, 4, 1])[:, None]).long()
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    names = {value.name for value in session.get_inputs()}
    (actual,) = session.run(["logits"], {name: values.numpy() for name, values in given.items() if name in names})
    with torch.no_grad():
        numpy.testing.assert_allclose(actual, model(ids, mask).logits.numpy(), atol=1e-5)
        alone = model(ids[1:2, :4]).logits.numpy()
    numpy.testing.assert_allclose(actual[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_packed_file_of_few_bits_and_the_tokens_that_were_seen(static_run, bits):
    settings = {"weights": bits, "activations": None, "target": "packed", "start": "50%"}
    report = run(static_run, quantize=settings, vocabulary="seen")
    (export,) = report.exports
    assert export.largest_difference < 1e-5 and export.agreement == 1.0 and export.precision == f"{bits}-bit"
    packed = load(report.folder, AutoModelForSequenceClassification)
    assert packed.get_input_embeddings().weight.shape[1] == 16


def test_elements_of_embeddings_and_head_are_pruned(static_run):
    prune = {"kind": "Magnitude", "sparsity": 0.5, "where": ["embeddings", "head"]}
    report = run(static_run, prune=prune, quantize=None)
    model = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert (model.get_input_embeddings().weight == 0).float().mean() == pytest.approx(0.5, abs=0.02)


def test_numbers(tmp_path):
    (tmp_path / "data").mkdir()
    save_data("regression", tmp_path / "data", rows=24)
    save_teacher("regression", tmp_path / "teacher", layers=2)
    file = tmp_path / "x.yaml"
    config = CONFIG.format(data=tmp_path / "data", teacher=tmp_path / "teacher", output=tmp_path / "runs")
    file.write_text(config.replace("classification", "regression"))
    report = run(file)
    assert report.exports[0].largest_difference < 1e-3 and report.parity["folded"] < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": {"kind": "Static", "width": 0}}, "student.width: at least 1 is needed, not 0"),
        ({"student": {"kind": "Static", "width": 64}}, "student.width: the teacher's states are 32 wide, not 64"),
        ({"student": {"kind": "Static", "low_rank": {"rank": 2}}}, "low_rank: .* this is a static model"),
        ({"losses": {"r": {"kind": "HiddenMSE"}}}, "losses.r: .*a static has the level 'outputs'"),
        ({"losses": {"r": {"kind": "Relations"}}}, "losses.r: .*a static has the level 'outputs'"),
        (
            {"prune": {"kind": "Magnitude", "shape": "heads", "sparsity": 0.5}},
            "prune.shape: a static model has no heads",
        ),
        (
            {"prune": {"kind": "Wanda", "sparsity": 0.5}},
            "prune.kind: Wanda cannot collect the inputs of layers of a static model",
        ),
        ({"replace": 0.5}, "replace: "),
    ],
)
def test_what_a_static_model_has_not_is_refused_in_one_line(static_run, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(static_run, **({"student": {"kind": "Static", "width": 16}} | changes))


@pytest.mark.parametrize("stop", [5, 13])
def test_resumes_bit_for_bit(static_run, monkeypatch, stop):
    resumes_bit_for_bit(monkeypatch, stop, 16, static_run)
