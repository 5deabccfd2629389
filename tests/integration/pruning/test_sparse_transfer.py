"""A sparse student that is trained on: with ``prune: fixed_mask`` its zeros stay, in its file too; else it is told."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError, load
from distill.config.writer import to_yaml
from distill.experiment.experiment import Experiment
from students.weights import fold
from tests.helpers.pruning.models import without
from tests.helpers.runs import command, resumes_bit_for_bit

LOSSES = {"logits": {"kind": "Logits"}}
BLOCKS = "bert.encoder.layer"


@pytest.fixture(scope="module")
def sparse(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's folder with 2:4 zeros in all matrices of its blocks."""
    folder = tmp_path_factory.mktemp("sparse")
    shutil.copytree(materials / "teacher", folder, dirs_exist_ok=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    without(model, {"elements": 0.5}, scope=4)
    fold(model)
    model.save_pretrained(folder)
    return folder


def places(folder: Path) -> dict[str, torch.Tensor]:
    """Which entries of the blocks' matrices are zero."""
    weights = load_file(folder / "model.safetensors")
    return {name: weight == 0 for name, weight in weights.items() if name.startswith(BLOCKS) and weight.ndim == 2}


def share(folder: Path) -> float:
    """Of all matrices."""
    weights = [weight for weight in load_file(folder / "model.safetensors").values() if weight.ndim == 2]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def test_without_prune_the_zeros_are_filled_and_told(sparse: Path, tiny_run: Path) -> None:
    report = run(tiny_run, student=str(sparse), losses=LOSSES, prune=None, quantize=None)
    begun, ended = share(sparse), share(report.folder / "student")
    assert begun > 0.3 and ended < 0.01
    before = f"{begun:.1%} of the student's weights are zero, and training fills them"
    after = f"was {begun:.1%} before training and is {ended:.1%} after it"
    assert [sum(line in warning for warning in report.warnings) for line in (before, after)] == [1, 1]


def test_kept_zeros_are_in_the_file_and_in_the_report(sparse: Path, tiny_run: Path) -> None:
    quantize = {"weights": 8, "activations": 8, "target": "onnxruntime", "start": "50%"}
    report = run(tiny_run, student=str(sparse), losses=LOSSES, prune="fixed_mask", quantize=quantize)
    before, after = places(sparse), places(report.folder / "student")
    assert len(before) == 24
    for name, zero in before.items():
        assert after[name][zero].all(), name
        assert (after[name].view(len(zero), -1, 4).sum(-1) >= 2).all()
    assert not any("zero" in warning for warning in report.warnings)
    begun, folded = share(sparse), report.models["student in torch"]
    assert 1 - folded.nonzero_parameters / folded.parameters > begun - 0.02
    trained = load_file(report.folder / "student" / "model.safetensors")
    old = load_file(sparse / "model.safetensors")
    name = f"{BLOCKS}.0.output.dense.weight"
    assert not torch.equal(trained[name], old[name])
    config = load(report.folder / "config.yaml", Experiment)
    assert type(config.value.prune).__name__ == "FixedMask"
    assert to_yaml(config.value) == (report.folder / "config.yaml").read_text()


def test_it_resumes_bit_for_bit(sparse: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"student": str(sparse), "losses": LOSSES, "prune": "fixed_mask", "quantize": None}
    resumes_bit_for_bit(monkeypatch, 7, 16, tiny_run, **given)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_keep_them(sparse: Path, tiny_run: Path, strategy: str) -> None:
    words = [f"--student={sparse}", "--prune=fixed_mask", "--quantize=null", "--trainer.devices=2", "--name=two"]
    words += [f"--trainer.strategy={strategy}", "--losses.hidden=null", "--losses.relations=null"]
    process = command(tiny_run, *words)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    before, after = places(sparse), places(tiny_run.parent / "runs" / "two" / "student")
    assert all(torch.equal(after[name], zero) for name, zero in before.items())


def test_a_student_cut_from_a_sparse_teacher_keeps_them_too(sparse: Path, tiny_run: Path) -> None:
    student = {"kind": "Transformer", "layers": 2}
    report = run(tiny_run, teacher=str(sparse), student=student, losses=LOSSES, prune="fixed_mask", quantize=None)
    before, after = places(sparse), places(report.folder / "student")
    for student_layer, taken in ((0, 1), (1, 3)):
        name = "attention.self.query.weight"
        assert torch.equal(after[f"{BLOCKS}.{student_layer}.{name}"], before[f"{BLOCKS}.{taken}.{name}"])


def test_a_dense_student_has_nothing_to_keep(tiny_run: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--prune: fixed_mask: the student is not sparse: 0.00%"):
        run(tiny_run, prune="fixed_mask")
