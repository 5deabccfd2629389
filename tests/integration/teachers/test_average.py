"""The student's moving average as its teacher: what it averages, where it is kept, a whole run with it."""

from copy import deepcopy

import lightning
import pytest
import torch

from distill import run
from distill.config.loader import ConfigError
from distill.experiment.optimizer import Optimizer
from distill.teachers.averaged_student import AveragedStudent
from distill.teachers.moving_average import MovingAverage
from distill.training.module import Distillation
from losses.outputs.labels import Labels
from losses.outputs.logits import Logits
from losses.states.hidden import HiddenMSE
from prune_schedules.callback import Prune
from prune_schedules.schedule import Steps, Timeline, TimePoint
from prune_schedules.scores.magnitude import Magnitude
from quant_aware.callback import QuantizeAware
from quant_aware.quantize import Quantize
from tests.helpers.families import tiny
from tests.helpers.runs import checkpoint, flat, resumes_bit_for_bit
from tests.helpers.worlds import three_classes
from tests.unit.distill.training.test_module import LENGTHS, LengthGroupedBatchSampler, TrainLoader, counted, rows

DECAY = Steps(initial=0.5, at={"50%": 0.9})
LOSSES = {
    "labels": {"kind": "Labels"},
    "logits": {"kind": "Logits", "temperature": 2.0},
    "hidden": {"kind": "HiddenMSE", "layers": "last", "start": "50%"},
}


def built() -> Distillation:
    student, losses = tiny("bert", layers=2), {"labels": Labels(), "logits": Logits(), "hidden": HiddenMSE()}
    average = MovingAverage(decay=DECAY).create_online(student)
    for loss in losses.values():
        loss.setup(student.config, average.model.config)
    return Distillation(student, average, losses, three_classes(), Optimizer(lr=1e-2), Timeline(4, 2))


@torch.no_grad()
def effective(student: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What masks and rounding make of the weights, applied one after the other."""
    weights = {name: p.clone() for name, p in student.named_parameters() if "parametrizations" not in name}
    for path, module in student.named_modules():
        if torch.nn.utils.parametrize.is_parametrized(module):
            value = module.parametrizations.weight.original
            for step in module.parametrizations.weight:
                value = step(value)
            weights[f"{path}.weight"] = value.clone()
    return {name: value.double() for name, value in weights.items()}


class Past(lightning.Callback):
    """Keeps the effective weights after each optimizer step, and the average next to them."""

    def __init__(self):
        self.weights, self.averages = [], []

    def on_train_start(self, trainer, module):
        self.step = trainer.global_step
        self.begun = deepcopy(module.teacher.model)

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            self.weights.append(effective(module.student))
            self.averages.append({name: p.clone() for name, p in module.teacher.model.named_parameters()})


def fit(module: Distillation, folder, *callbacks: lightning.Callback) -> Past:
    past = Past()
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        callbacks=[*callbacks, module.teacher, past],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=2,
        default_root_dir=folder,
    )
    trainer.fit(module, TrainLoader(rows(), LengthGroupedBatchSampler(LENGTHS, 2), counted(module), 2))
    return past


@pytest.mark.parametrize("compressed", [False, True])
def test_is_the_average_of_what_the_student_computes_with_after_each_optimizer_step(tmp_path, compressed):
    module = built()
    pruner = Magnitude(sparsity=Steps(at={"25%": 0.3, "50%": 0.5}), every=TimePoint("1 step"))
    steps = [Prune({"prune": pruner}), QuantizeAware(Quantize(start=TimePoint("25%")))] if compressed else []
    past = fit(module, tmp_path, *steps)
    expected = {name: p.detach().double() for name, p in past.begun.named_parameters()}
    assert len(past.weights) == 4
    for decay, weights, average in zip((0.5, 0.5, 0.9, 0.9), past.weights, past.averages, strict=True):
        assert average.keys() == expected.keys()
        for name, now in weights.items():
            expected[name] = decay * expected[name] + (1 - decay) * now
            torch.testing.assert_close(average[name].double(), expected[name], atol=1e-6, rtol=1e-5, msg=name)
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    assert ((past.weights[-1][name] == 0).double().mean() > 0.4) == compressed


def test_begins_as_the_student_and_is_no_part_of_the_module(tmp_path):
    module = built()
    average_ids = {id(p) for p in module.teacher.model.parameters()}
    assert all(torch.equal(module.teacher.model.state_dict()[n], p) for n, p in module.student.state_dict().items())
    fit(module, tmp_path)
    assert not average_ids & {id(p) for p in module.parameters()}
    assert {name.split(".")[0] for name in module.state_dict()} == {"student"}
    assert not module.teacher.model.training and module.student.training
    assert not any(p.requires_grad for p in module.teacher.model.parameters())


@pytest.fixture
def given(materials) -> dict:
    """Makes the tiny run one without another teacher."""
    return {"teacher": {"decay": 0.9}, "student": str(materials / "teacher"), "losses": LOSSES}


@pytest.mark.parametrize("stop", [3, 12])
def test_resumes_bit_for_bit(tiny_run, monkeypatch, given, stop):
    folder = resumes_bit_for_bit(monkeypatch, stop, 16, tiny_run, **given)
    saved = checkpoint(folder)
    assert AveragedStudent.__name__ in saved["callbacks"]
    best = flat(checkpoint(folder, "best"))
    assert not any("AveragedStudent" in name for name in best)
    assert {name.split(".")[0] for name in saved["state_dict"]} == {"student"}


def test_a_whole_run_has_no_teacher_to_compare_with(tiny_run, given):
    report = run(tiny_run, **given | {"prune": None, "quantize": None})
    assert set(report.models) == {"student"} and report.ratios == {}


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("teacher", {"decay": 1.5}, r"teacher\.decay: is 1\.5 at step 0; it must be between"),
        ("losses", {"logits": LOSSES["logits"]}, r"losses: all use the teacher, .* add one .*Labels"),
        ("student", {"kind": "Transformer"}, "student: a Transformer student is cut from a teacher"),
    ],
)
def test_a_mistake(tiny_run, given, key, value, message):
    with pytest.raises(ConfigError, match=message):
        run(tiny_run, **given | {key: value})
    assert not (tiny_run.parent / "runs").exists()
