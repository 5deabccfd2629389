"""NaN and infinity stop a run at the step they come, on all ranks, with a line; no checkpoint ever holds one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

import distill.training.trainer
from distill import run
from distill.config.loader import ConfigError
from distill.training.callbacks.finite import MAX_SKIPPED_STEPS, NonFiniteError
from distill.training.module import Distillation
from losses.outputs.logits import Logits

PLAIN = {"losses.relations": None, "quantize": None, "prune": None, "name": "x"}
NAN, INFINITY = float("nan"), float("inf")


def inject(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor], *steps: int) -> None:
    """Changes what the loss ``logits`` is at some steps, counted from 1."""
    real, calls = Logits.divergence, iter(range(1, 10_000))

    def divergence(self, log_p, log_q):
        value = real(self, log_p, log_q)
        return change(value) if next(calls) in steps else value

    monkeypatch.setattr(Logits, "divergence", divergence)


class NanGradient(torch.autograd.Function):
    """What it is given; its gradient is NaN."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * NAN


def stopped(file: Path, message: str, **given: object) -> str:
    """Asserts that a run stops with this message, and nothing of it has a NaN; the message."""
    with pytest.raises(NonFiniteError, match=message) as error:
        run(file, **PLAIN | given)
    folder = file.parent / "runs" / "x"
    assert not (folder / "student").exists() and not (folder / "report.json").exists()
    for checkpoint in (folder / "checkpoints").glob("*.ckpt"):
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values())
    return str(error.value)


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
def test_a_loss(tiny_run, monkeypatch, value):
    inject(monkeypatch, lambda loss: loss * 0 + value, 11)
    message = stopped(tiny_run, rf"^stopped at step 11 of 16: the loss 'logits' is {value}; nothing is deployed")
    assert "a lower optimizer.lr (now 0.000375), or a lower trainer.gradient_clip_val (now 1.0)" in message
    assert "\n" not in message
    assert torch.load(tiny_run.parent / "runs" / "x" / "checkpoints" / "last.ckpt")["global_step"] == 10


def test_a_loss_within_an_accumulation_window(tiny_run, monkeypatch):
    inject(monkeypatch, lambda loss: loss * NAN, 9)  # the first of four batches of the third window
    stopped(tiny_run, "^stopped at step 3 of 4: the loss 'logits' is nan", **{"trainer.accumulate_grad_batches": 4})


@pytest.mark.parametrize("clip", [1.0, None])
def test_a_gradient_of_a_finite_loss(tiny_run, monkeypatch, clip):
    """Named where the backward pass comes first; the clipped gradient would be NaN everywhere."""
    inject(monkeypatch, NanGradient.apply, 6)
    message = stopped(tiny_run, "^stopped at step 6 of 16: the gradient of ", **{"trainer.gradient_clip_val": clip})
    assert "the gradient of student.classifier.bias is not finite" in message
    assert ("trainer.gradient_clip_val: 1.0" in message) == (clip is None)


def test_a_gradient_that_begins_in_the_middle_is_named_there(tiny_run, monkeypatch):
    real, calls = Distillation.training_step, iter(range(1, 100))

    def step(self, batch, index):
        if next(calls) == 6:
            layer = self.student.bert.encoder.layer[0].output.dense

            def spoil(module, args, output):
                handle.remove()
                return NanGradient.apply(output)

            handle = layer.register_forward_hook(spoil)
        return real(self, batch, index)

    monkeypatch.setattr(Distillation, "training_step", step)
    stopped(tiny_run, r"step 6 of 16: the gradient of student\.bert\.encoder\.layer\.0\.output\.dense\.bias is not")


def test_a_gradient_too_large_to_be_clipped(tiny_run, monkeypatch):
    """All its numbers are finite, their norm is not: clipping would divide by it and nothing would be learnt."""
    inject(monkeypatch, lambda loss: loss + (loss - loss.detach()) * 1e25, 6)
    stopped(tiny_run, "^stopped at step 6 of 16: the gradient")


def test_weights_spoilt_by_the_optimizer(tiny_run):
    """Adam divides 0 by 0 for words that no row of the batch has."""
    message = stopped(tiny_run, "^stopped at step 1 of 16: the weight", **{"optimizer.eps": 0.0})
    assert "the weight student.bert.embeddings.word_embeddings.weight is not finite after the step" in message


def test_a_learning_rate_that_is_far_too_high(tiny_run):
    stopped(tiny_run, "^stopped at step [12] of 16: ", **{"optimizer.lr": 1e30, "optimizer.warmup": "0%"})


def test_weights_under_masks_and_fake_quantization(tiny_run):
    steps = {"prune": {"kind": "Magnitude", "sparsity": 0.5}, "quantize": {"start": "0%"}}
    message = stopped(tiny_run, "^stopped at step 1 of 16: the weight", **{"optimizer.eps": 0.0} | steps)
    assert "parametrizations" not in message and "original" not in message


def test_outputs_on_validation(tiny_run, monkeypatch):
    """Accuracy does not show them: the likeliest of NaN is the first class."""
    real = Distillation.validation_step
    seen = iter(range(100))

    def validation_step(self, batch, index):
        logits = real(self, batch, index)
        return logits * NAN if next(seen) == 0 else logits

    monkeypatch.setattr(Distillation, "validation_step", validation_step)
    stopped(tiny_run, "^stopped at step 3 of 16: the student's outputs on the validation rows are not finite")
    assert not (tiny_run.parent / "runs" / "x" / "checkpoints" / "best.ckpt").exists()


def test_a_metric_that_is_infinite(tiny_run, monkeypatch):
    monkeypatch.setattr(MulticlassAccuracy, "compute", lambda self: torch.tensor(INFINITY))
    stopped(tiny_run, "^stopped at step 3 of 16: val/accuracy is inf")


NUMBERS = ["optimizer.lr", "losses.logits.weight", "losses.logits.temperature", "prune.neurons.sparsity"]


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e400"])
@pytest.mark.parametrize("key", [*NUMBERS, "trainer.gradient_clip_val", "optimizer.betas"])
def test_a_config_with_a_number_that_is_none(tiny_run, key, value):
    with pytest.raises(ConfigError, match=rf"--{key}: .*(nan|inf) is not a finite number"):
        run(tiny_run, **{key: f"[{value}, 0.9]" if key.endswith("betas") else value})


def spoil(folder: Path, copy: Path, name: str, value: float, where: object = 0) -> Path:
    """A copy of a model with a weight of which a part is ``value``."""
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    tensors = {key: tensor.float() for key, tensor in load_file(folder / "model.safetensors").items()}
    tensors[name].view(-1)[where] = value
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    config = (copy / "config.json").read_text().replace("float16", "float32")
    (copy / "config.json").write_text(config)
    return copy


@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize("key", ["teacher", "student"])
def test_a_file_with_a_weight_that_is_none(materials, tiny_run, tmp_path, key, value):
    name = "bert.encoder.layer.1.output.dense.weight"
    bad = spoil(materials / "teacher", tmp_path / "bad", name, value)
    message = rf"{key}\.?m?o?d?e?l?: .*1 of 2048 numbers of its weight {name} are NaN or infinite"
    with pytest.raises(ConfigError, match=message):
        run(tiny_run, **PLAIN | {key: str(bad), "losses.hidden": None})
    assert not (tiny_run.parent / "runs").exists()


def test_a_teacher_whose_outputs_are_none(materials, tiny_run, tmp_path):
    """Its weights are finite, and too large to be multiplied."""
    norm = "bert.encoder.layer.3.output.LayerNorm.weight"
    bad = spoil(materials / "teacher", tmp_path / "bad", norm, 3e38, slice(None))
    with pytest.raises(ConfigError, match=r"teacher\.model: .*gives NaN or infinity for"):
        run(tiny_run, **PLAIN | {"teacher": str(bad), "student": str(materials / "teacher")})


def test_a_teacher_that_fails_on_a_later_row_is_named(materials, tiny_run, monkeypatch):
    from distill.teachers.teacher import FrozenTeacher

    real, calls = FrozenTeacher.trace, iter(range(1, 100))

    def trace(self, batch, signals):
        outputs = real(self, batch, signals)
        if "window" in batch and next(calls) >= 5:  # before training it runs as well
            outputs.logits = outputs.logits * NAN
        return outputs

    monkeypatch.setattr(FrozenTeacher, "trace", trace)
    stopped(tiny_run, "^stopped at step 5 of 16: the loss 'logits' is nan, and so are the teacher's outputs")


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 with a scaler, as 16-mixed is on a GPU; Lightning itself takes bfloat16 on a CPU."""
    real = distill.training.trainer._trainer

    def trainer(given: dict, folder: Path) -> Trainer:
        built_trainer = real(given, folder)
        built_trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu")
        return built_trainer

    monkeypatch.setattr(distill.training.trainer, "_trainer", trainer)


def test_steps_that_float16_skips_are_normal(tiny_run, monkeypatch, half):
    inject(monkeypatch, NanGradient.apply, *range(1, 9), 12)
    report = run(tiny_run, **PLAIN)
    assert report.models["student"].parameters and (report.folder / "student").exists()


def test_float16_that_skips_every_step_is_stopped(tiny_run, monkeypatch, half):
    inject(monkeypatch, NanGradient.apply, *range(3, 100))
    message = stopped(tiny_run, "^stopped at step 22 of 40: float16 has skipped 20 steps", **{"trainer.max_epochs": 5})
    assert MAX_SKIPPED_STEPS == 20 and "trainer.precision: bf16-mixed" in message


def test_a_short_run_of_which_float16_skips_every_step(tiny_run, monkeypatch, half):
    inject(monkeypatch, NanGradient.apply, *range(1, 100))
    stopped(tiny_run, "^stopped at step 16 of 16: float16 has skipped 16 steps in a row")


def test_a_loss_in_float16_is_no_matter_of_scale(tiny_run, monkeypatch, half):
    inject(monkeypatch, lambda loss: loss + INFINITY, 5)
    stopped(tiny_run, "^stopped at step 5 of 16: the loss 'logits' is inf")
