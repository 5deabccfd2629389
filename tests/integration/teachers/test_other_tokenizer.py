"""Whole runs of a student that takes the vocabulary of another tokenizer than its teacher's."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill import run
from distill.config.errors import ConfigError
from tests.helpers.runs import resumes_bit_for_bit
from tests.helpers.students.other_tokenizers import save_byte_level

CONFIG = """\
task: {{name: {task}, data: {data}, max_length: 32, batch_size: 8}}
teacher: {{model: {teacher}, cache: true}}
student: {{kind: Transformer, layers: 2, hidden: 24, heads: 4, tokenizer: {folder}/bytes}}
losses:
  logits: {{kind: Logits, temperature: 2.0}}
  top: {{kind: HiddenMSE, layers: top, pooling: mean}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""


@pytest.fixture
def config(materials, tmp_path):
    save_byte_level(tmp_path / "bytes")
    file = tmp_path / "x.yaml"
    file.write_text(
        CONFIG.format(task="classification", data=materials / "data", teacher=materials / "teacher", folder=tmp_path)
    )
    return file


def test_the_deployed_student_has_that_tokenizer(config, materials):
    report = run(config, export="onnx")
    student = config.parent / "runs" / "x" / "student"
    saved, given = AutoTokenizer.from_pretrained(student), AutoTokenizer.from_pretrained(config.parent / "bytes")
    assert saved.get_vocab() == given.get_vocab() and saved.backend_tokenizer.padding is None
    model = AutoModelForSequenceClassification.from_pretrained(student)
    assert model.config.vocab_size == len(given) and model.config.pad_token_id == given.eos_token_id
    with torch.no_grad():
        assert model(**saved("a warm film", return_tensors="pt")).logits.isfinite().all()
    assert "teacher: reads the texts in tokens of its own, 10 at most (max_length: 32)" in report.notes
    kept = json.loads((config.parent / "runs" / "x" / "report.json").read_text())
    assert kept["exports"][0]["agreement"] == 1.0


def test_a_stopped_run_goes_on_bit_for_bit(config, monkeypatch):
    resumes_bit_for_bit(monkeypatch, 5, 16, config)


def test_a_smaller_vocabulary_of_that_tokenizer(config):
    report = run(config, vocabulary="seen", **{"task.max_train_samples": 8})
    tokenizer = AutoTokenizer.from_pretrained(config.parent / "runs" / "x" / "student")
    assert len(tokenizer) < 300 and report.models["student"].metrics


def test_what_cannot_be_is_told_before_the_first_step(config, materials):
    (config.parent / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"student\.tokenizer: .*/empty' holds no tokenizer: it has no tok"):
        run(config, **{"student.tokenizer": str(config.parent / "empty")})
    text = config.read_text()
    config.write_text(text.replace(", pooling: mean", ""))
    with pytest.raises(ConfigError, match=r"losses\.top: compares token by token, and teacher reads tokens of its own"):
        run(config)
