"""Runs of families that no table lists: distilled, pruned, in 8 bits, and written as ONNX."""

import csv
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill import load, run
from distill.config.errors import ConfigError
from distill.training.prepare.checks import export_check
from tests.helpers.repositories import save_tokenizer, sentences
from tests.helpers.students.derived import config_of

CONFIG = """\
task: {{name: classification, data: data.csv, max_length: 16}}
teacher: {{model: teacher, check: false}}
student: {{kind: Transformer, layers: 2}}
losses: {{logits: {{kind: Logits}}, states: {{kind: HiddenMSE, layers: uniform}}}}
prune: {{kind: Magnitude, sparsity: 0.5}}
quantize: {{start: 50%}}
trainer: {{max_steps: 4, accelerator: cpu, devices: 1}}
output: {output}
"""


def save_teacher(name: str) -> None:
    vocabulary = save_tokenizer(Path("teacher"))
    labels = {0: "negative", 1: "positive"}
    config = config_of(name, vocab_size=vocabulary, num_labels=2, id2label=labels)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained("teacher")
    rows = "".join(f"{row['sentence']},{labels[row['label']]}\n" for row in sentences(40, 0))
    Path("data.csv").write_text(f"text,label\n{rows}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(CONFIG.format(output=tmp_path / "runs"))
    return tmp_path


@pytest.mark.slow  # each writes three files in ONNX
@pytest.mark.parametrize("name", ["modernbert", "deberta-v2", "mpnet", "qwen3_moe"])
def test_a_run_ends_with_a_stock_model_and_an_int8_file(folder: Path, name: str) -> None:
    save_teacher(name)
    report = run("x.yaml")
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student").eval()
    assert type(student).__module__.startswith("transformers.")
    assert student.config.num_hidden_layers == 2
    linear = [
        m.weight for m in student.base_model.modules() if isinstance(m, torch.nn.Linear) and m.weight.numel() > 64
    ]
    assert any((weight == 0).float().mean() == pytest.approx(0.5, abs=0.02) for weight in linear)
    assert report.models["student"].runtime == "onnxruntime"
    inputs = AutoTokenizer.from_pretrained(report.folder / "student")("a fine film", return_tensors="pt")
    with torch.no_grad():
        scores = student(**inputs).logits.softmax(-1)[0]
    answer = load(report.folder)("a fine film")
    assert answer["score"] == pytest.approx(float(scores.max()), abs=0.02)


def test_a_student_of_fewer_layers_learns_from_its_teacher(folder: Path) -> None:
    """On logits, hidden states and attention, in float32."""
    save_teacher("modernbert")
    losses = {"logits": {"kind": "Logits"}, "states": {"kind": "HiddenMSE"}, "attention": {"kind": "AttentionKL"}}
    report = run("x.yaml", losses=losses, quantize=None)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert student.config.num_hidden_layers == 2
    assert report.models["student"].runtime == "torch"


@pytest.mark.parametrize("name", ["deberta-v2", "xlnet"])
@pytest.mark.parametrize("kind", ["AttentionScores", "Relations"])
def test_attention_that_is_watched_is_learnt(folder: Path, name: str, kind: str) -> None:
    """Its loss, the only one, falls; the student's attention has a gradient of it."""
    save_teacher(name)
    teacher = AutoModelForSequenceClassification.from_pretrained("teacher")
    for parameter in teacher.parameters():
        parameter.data.mul_(5.0 if parameter.ndim > 1 else 1.0)  # else its attention is nearly uniform
    teacher.save_pretrained("teacher")
    losses = {"attention": {"kind": kind, "layers": {1: 1, 2: 3}}}
    trainer = {"max_steps": 30, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1}
    run("x.yaml", losses=losses, quantize=None, prune=None, trainer=trainer, optimizer={"lr": 3e-3})
    with (folder / "runs" / "x" / "metrics.csv").open() as file:
        values = [float(row["train/attention"]) for row in csv.DictReader(file) if row.get("train/attention")]
    assert 0 < values[-1] < 0.8 * values[0]


def test_what_cannot_be_written_as_onnx_is_refused_before_the_first_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_teacher("modernbert")

    def fail(*arguments: object) -> None:
        raise RuntimeError("no function for aten::strange")

    monkeypatch.setattr(export_check, "export_onnx", fail)
    message = "^x.yaml:6: quantize: a modernbert cannot be written as ONNX: no function for aten::strange$"
    with pytest.raises(ConfigError, match=message):
        run("x.yaml")
    assert not (folder / "runs").exists()


def test_a_file_with_other_logits_is_refused_before_the_first_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_teacher("modernbert")
    real = export_check.OnnxModel

    def shifted(path: Path):
        model = real(path)
        return lambda batch: model(batch) + 1

    monkeypatch.setattr(export_check, "OnnxModel", shifted)
    with pytest.raises(ConfigError, match="quantize: a modernbert written as ONNX gives logits that differ by up to 1"):
        run("x.yaml")


@pytest.mark.slow  # each writes three files in ONNX
@pytest.mark.parametrize(
    ("name", "prune"),
    [
        ("modernbert", {"heads": "heads", "neurons": "neurons"}),
        ("opt", {"neurons": "neurons", "layers": "layers"}),
        ("bart", {"hidden": "hidden"}),
    ],
)
def test_units_are_cut_and_the_int8_file_is_what_was_trained(folder: Path, name: str, prune: dict[str, str]) -> None:
    save_teacher(name)
    pruners = {key: {"kind": "Magnitude", "sparsity": 0.5, "shape": shape} for key, shape in prune.items()}
    report = run("x.yaml", prune=pruners)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student").eval()
    teacher = AutoModelForSequenceClassification.from_pretrained("teacher")
    assert student.num_parameters() < teacher.num_parameters()
    inputs = AutoTokenizer.from_pretrained(report.folder / "student")("a fine film", return_tensors="pt")
    with torch.no_grad():
        scores = student(**inputs).logits.softmax(-1)[0]
    assert load(report.folder)("a fine film")["score"] == pytest.approx(float(scores.max()), abs=0.02)
