"""Whole runs with recurrent networks: distilled, pruned and rounded, resumed, as teachers."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError
from distill.evaluation.measure import count_flops, torch_predict
from quant_aware.export.packed import load
from students.kinds.recurrent import GRU, LSTM, RNN
from tests.helpers.families import tiny
from tests.helpers.runs import resumes_bit_for_bit, rows
from tests.helpers.worlds import save_data, save_teacher

CONFIG = """\
task: {{name: classification, data: {data}, max_length: 32, batch_size: 8}}
teacher: {teacher}
student: {{kind: LSTM, hidden: 12, layers: 2}}
losses:
  hidden: {{kind: HiddenMSE, layers: top, stop: 50%}}
  logits: {{kind: LogitsMSE}}
prune: {{kind: Magnitude, sparsity: {{kind: Cubic, to: 0.5, start: 10%, stop: 60%}}}}
quantize: {{start: 70%}}
optimizer: {{lr: 5e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {output}
"""


@pytest.fixture
def recurrent_run(materials, tmp_path) -> Path:
    """The config file of a run of 16 steps."""
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG.format(data=materials / "data", teacher=materials / "teacher", output=tmp_path / "runs"))
    return file


def test_distilled_pruned_and_rounded_in_one_run_it_teaches_the_next(recurrent_run, one_thread):
    report = run(recurrent_run)
    table = rows(report.folder)
    assert all(float(table[0][f"train/{name}"]) > 0 for name in ("hidden", "logits"))
    hidden = [float(row["train/hidden"]) for row in table if row["train/hidden"]]
    assert hidden[7] < 0.97 * hidden[0]
    (export,) = report.exports
    assert export.agreement == 1.0 and export.largest_difference < 1e-4
    assert report.parity["folded"] < 1e-5 and report.parity["cut"] == 0
    assert "it loads after `import students`" in (report.folder / "report.html").read_text()
    model = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert model.config.model_type == "recurrent" and model.config.id2label == {0: "negative", 1: "positive"}
    weights = [w for name, w in model.named_parameters() if "layers" in name and w.ndim == 2]
    assert len(weights) == 8 and all((w == 0).float().mean() == pytest.approx(0.5, abs=0.02) for w in weights)
    next_report = run(
        recurrent_run,
        name="next",
        teacher={"model": str(report.folder), "cache": True},
        student={"kind": "GRU", "hidden": 6, "embedding": 8, "dropout": 0.0},
        losses={"hidden": {"kind": "HiddenMSE", "layers": {0: 0, 1: 2}, "project": True}, "logits": {"kind": "Logits"}},
        quantize=None,
    )
    assert next_report.models["teacher"].metrics == report.models["student in torch"].metrics
    assert next_report.models["student"].parameters < report.models["student in torch"].parameters


@pytest.mark.parametrize(("kind", "gates"), [(LSTM, 4), (GRU, 3), (RNN, 1)])
def test_operations_are_counted(kind, gates):
    model = kind(hidden=8).build(tiny("bert"), {0: "a", 1: "b"}, None)
    example = {"input_ids": torch.ones(1, 5, dtype=torch.long)}
    assert count_flops(model, example) == 2 * (5 * 2 * gates * 8 * (32 + 8) + 16 * 8 + 8 * 2)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"kind": "LSTM", "hidden": 0}, "student.hidden: at least 1 is needed, not 0"),
        ({"kind": "GRU", "projection": 4}, "student.projection: "),
        ({"kind": "RNN", "embedding": 64}, "student.embedding: the teacher's embeddings are 32 wide, not 64"),
    ],
)
def test_a_mistake_is_told_where_it_is(recurrent_run, student, message):
    with pytest.raises(ConfigError, match=message):
        run(recurrent_run, student=student)


def test_attention_is_refused_before_the_first_step(recurrent_run):
    with pytest.raises(ConfigError, match="losses.r: attention: a recurrent network has none"):
        run(recurrent_run, losses={"r": {"kind": "Relations"}, "logits": {"kind": "Logits"}})


@pytest.mark.parametrize("stop", [5, 13])
def test_resumes_bit_for_bit(recurrent_run, monkeypatch, stop):
    resumes_bit_for_bit(monkeypatch, stop, 16, recurrent_run)


def test_a_packed_file_is_the_student_that_was_trained(recurrent_run):
    report = run(recurrent_run, quantize={"weights": {"kind": "Ternary"}, "activations": 8, "start": "50%"})
    (export,) = report.exports
    assert export.largest_difference < 1e-5 and export.agreement == 1.0 and export.precision == "2-bit"
    packed = load(report.folder, AutoModelForSequenceClassification)
    plain = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    batch = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    rounded, unrounded = torch_predict(packed)(batch), torch_predict(plain)(batch)
    assert not torch.equal(rounded, unrounded), "its inputs are rounded, those of each step too"
    torch.testing.assert_close(rounded, unrounded, atol=0.05, rtol=0.05)


TASKS = """\
task: {{name: {name}, data: {folder}/data, max_length: 32, batch_size: 8}}
teacher: {folder}/teacher
student: {{kind: {kind}, hidden: 12, dropout: 0.0}}
losses: {{logits: {{kind: Logits}}}}
prune: {{kind: Magnitude, sparsity: {{kind: Cubic, to: 0.5, start: 20%, stop: 50%}}}}
quantize: {{start: 50%}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""


def world(name: str, kind: str, folder: Path, count: int = 24) -> Path:
    """The config file of a run of a task, with its data and teacher."""
    (folder / "data").mkdir()
    save_data(name, folder / "data", rows=count)
    save_teacher(name, folder / "teacher", layers=2)
    (folder / "x.yaml").write_text(TASKS.format(name=name, kind=kind, folder=folder))
    return folder / "x.yaml"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("token_classification", "GRU"), ("question_answering", "LSTM"), ("causal_lm", "LSTM"), ("masked_lm", "RNN")],
)
def test_other_tasks(name, kind, tmp_path):
    report = run(world(name, kind, tmp_path))
    assert report.exports[0].agreement > 0.9 and report.parity["folded"] < 1e-5


def test_there_is_none_that_translates(tmp_path):
    file = world("seq2seq", "LSTM", tmp_path)
    with pytest.raises(ConfigError, match="student.kind: of a LSTM there is no Seq2SeqLM"):
        run(file, **{"task.source": "left", "task.target": "right"})
