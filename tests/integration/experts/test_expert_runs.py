"""Whole runs at whose end experts are gone: cut while they train, resumed, exported, refused."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.errors import ConfigError
from prune_schedules.structure.cut import cut
from prune_schedules.targets.experts import ExpertTarget
from students.structure.experts import experts
from students.weights import fold
from tests.helpers.pruning.mixtures import logits, mixture
from tests.helpers.repositories import save_tokenizer, sentences
from tests.helpers.runs import resumes_bit_for_bit, rows, weights

CONFIG = """\
task: {{name: classification, data: {folder}/data.csv, max_length: 16, batch_size: 4}}
teacher: {{model: {folder}/teacher, check: false}}
student: {folder}/teacher
losses: {{logits: {{kind: Logits}}}}
prune: {{kind: Routing, batches: 2, sparsity: {{kind: Cubic, to: 0.5, start: 20%, stop: 60%}}}}
trainer: {{max_steps: 16, accelerator: cpu, devices: 1, log_every_n_steps: 1}}
output: {folder}/runs
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A config of a Qwen3-MoE of 6 experts, of which 3 go."""
    vocabulary = save_tokenizer(tmp_path / "teacher")
    labels = {0: "negative", 1: "positive"}
    model = mixture("qwen3_moe", "classification", vocab_size=vocabulary, num_labels=2, id2label=labels)
    model.save_pretrained(tmp_path / "teacher")
    lines = "".join(f"{row['sentence']},{labels[row['label']]}\n" for row in sentences(40, 0))
    (tmp_path / "data.csv").write_text(f"text,label\n{lines}")
    (tmp_path / "x.yaml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path / "x.yaml"


@pytest.mark.slow  # it writes three files in ONNX
def test_experts_without_tokens_are_gone_from_a_stock_model_in_8_bits(file: Path) -> None:
    report = run(file, quantize={"start": "70%"})
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert type(student).__module__.startswith("transformers.")
    assert student.config.num_experts == 3 and student.config.num_experts_per_tok == 2
    assert [len(layer.mlp.experts.down_proj) for layer in student.model.layers] == [3, 3]
    assert report.parity["folded"] < 1e-5 and report.parity["cut"] < 1e-5
    assert report.models["student"].runtime == "onnxruntime" and report.exports[0].agreement > 0.9
    models = json.loads((report.folder / "report.json").read_text())["models"]
    assert models["student"]["parameters"] == student.num_parameters() < models["teacher"]["parameters"]


@pytest.mark.parametrize("stop", [6, 12])
def test_resumes_bit_for_bit(file: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """While experts are masked, and when they have been cut."""
    state = weights(resumes_bit_for_bit(monkeypatch, stop, 16, file))
    assert all(len(value) == 3 for name, value in state.items() if "experts.down_proj" in name)
    assert not [name for name in state if "masked_router" in name]


@pytest.mark.parametrize("kind", ["Magnitude", "Taylor", "L0", "Random"])
def test_any_score_ranks_experts(file: Path, kind: str) -> None:
    report = run(
        file, prune={"kind": kind, "shape": "experts", "sparsity": {"kind": "Cubic", "to": 0.5, "stop": "60%"}}
    )
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    total = sum(len(layer.mlp.experts.down_proj) for layer in student.model.layers)
    assert total == 6 and all(torch.isfinite(weight).all() for weight in student.parameters())


def test_no_moving_average_beside_it(file: Path) -> None:
    with pytest.raises(ConfigError, match="prune: a moving average of the student would route tokens to pruned exp"):
        run(file, teacher={"decay": 0.9}, losses={"labels": {"kind": "Labels"}})


def test_blocks_may_keep_different_numbers(file: Path) -> None:
    """The result is a compact model, saved and loaded."""
    student = AutoModelForSequenceClassification.from_pretrained(file.parent / "teacher").eval()
    ExpertTarget(experts(student)[0]).keep(torch.tensor([True, False, True, False, True, True]))
    before = logits(student)
    fold(student)
    assert not cut(student).is_stock
    torch.testing.assert_close(logits(student), before, atol=1e-5, rtol=1e-5)
    student.save_pretrained(file.parent / "student")
    loaded = AutoModelForSequenceClassification.from_pretrained(file.parent / "student").eval()
    assert [len(layer.mlp.experts.down_proj) for layer in loaded.model.layers] == [4, 6]
    torch.testing.assert_close(logits(loaded), before, atol=1e-5, rtol=1e-5)
    assert [units.count for units in experts(loaded)] == [4, 6]


@pytest.mark.parametrize("merges", [True, False])
def test_a_dense_student_of_a_mixture(file: Path, merges: bool) -> None:
    student = {"kind": "Transformer", "experts": 1, "merge_experts": merges}
    report = run(file, student=student, prune=None, trainer={"max_steps": 4})
    loaded = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert type(loaded).__module__.startswith("transformers.")
    assert loaded.config.num_experts == loaded.config.num_experts_per_tok == 1
    models = json.loads((report.folder / "report.json").read_text())["models"]
    assert models["student"]["flops_per_example"] < models["teacher"]["flops_per_example"]


def test_the_start_follows_from_the_first_batches(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does a run that is resumed."""
    student = {"kind": "Transformer", "experts": 2, "merge_experts": True}
    resumes_bit_for_bit(monkeypatch, 4, 8, file, student=student, prune=None, trainer={"max_steps": 8})


@pytest.mark.slow  # it writes three files in ONNX
def test_a_dense_student_in_8_bits(file: Path) -> None:
    student = {"kind": "Transformer", "experts": 1, "merge_experts": True}
    report = run(file, student=student, prune=None, quantize={"start": "50%"})
    assert report.models["student"].runtime == "onnxruntime" and report.exports[0].agreement > 0.9


def test_routers_learn_from_the_teacher_and_stay_balanced(file: Path) -> None:
    """With as many terms as losses, and over an accumulation window."""
    losses = {"logits": {"kind": "Logits"}, "routers": {"kind": "RouterKL"}, "balance": {"kind": "LoadBalancing"}}
    trainer = {"max_steps": 6, "accumulate_grad_batches": 2}
    student = {"kind": "Transformer", "layers": 1}
    report = run(file, losses=losses, student=student, prune=None, trainer=trainer)
    last = [row for row in rows(report.folder) if row["train/routers"]][-1]
    assert float(last["train/routers"]) > 0 and 0.001 < float(last["train/balance"]) < 0.01
    assert not any("LoadBalancing" in warning for warning in report.warnings)


def test_a_mixture_without_load_balancing_is_told_so(file: Path) -> None:
    report = run(file, prune=None, trainer={"max_steps": 2})
    assert any(warning.startswith("losses: no LoadBalancing") for warning in report.warnings)


def test_routers_of_pruned_experts_are_not_compared(file: Path) -> None:
    with pytest.raises(ConfigError, match="losses.routers: compares all experts, of which prune removes some"):
        run(file, losses={"routers": {"kind": "RouterKL"}})


def test_teachers_whose_answers_are_kept_have_no_routers(file: Path) -> None:
    with pytest.raises(ConfigError, match="cache: would never be read: the losses look at routers at every step"):
        teacher = {"model": str(file.parent / "teacher"), "check": False, "cache": True}
        run(file, teacher=teacher, losses={"routers": {"kind": "RouterKL"}}, prune=None)
