"""The loop itself: modes, who is trained, and losses normalised once over the window."""

import itertools
from collections.abc import Callable

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from distill.data.batches import LengthGroupedBatchSampler, TrainLoader
from distill.experiment.optimizer import Optimizer
from distill.teachers.teacher import FrozenTeacher
from distill.training.callbacks.curves import CurveLogger
from distill.training.module import Distillation
from distill.training.optimizer import build_optimizer
from losses.loss import loss_counts
from losses.outputs.labels import Labels
from losses.outputs.logits import Logits
from losses.pairs.attention import AttentionKL
from losses.pairs.relations import Relations
from losses.states.hidden import HiddenMSE
from prune_schedules.schedule import Linear, Timeline, TimePoint
from students.recording.batch import Batch
from tests.helpers.families import tiny
from tests.helpers.worlds import three_classes

LENGTHS = [3, 9, 5, 7, 2, 8, 4, 6]


def rows() -> list[dict]:
    draw = torch.Generator().manual_seed(1)
    return [
        {"input_ids": torch.randint(5, 100, (n,), generator=draw), "labels": torch.tensor(i % 3)}
        for i, n in enumerate(LENGTHS)
    ]


def collate(actual: list[dict]) -> dict[str, torch.Tensor]:
    pad = torch.nn.utils.rnn.pad_sequence
    ids = [row["input_ids"] for row in actual]
    return {
        "input_ids": pad(ids, batch_first=True),
        "attention_mask": pad([torch.ones_like(x) for x in ids], batch_first=True),
        "labels": torch.stack([row["labels"] for row in actual]),
    }


def counted(built: Distillation) -> Callable[[list[dict]], Batch]:
    """The collator of a module's losses."""

    def collate_and_count(actual: list[dict]) -> Batch:
        batch = collate(actual)
        return batch | {"counts": loss_counts(built.losses.values(), batch)}

    return collate_and_count


def module(**losses) -> Distillation:
    teacher, student = tiny("bert", layers=4), tiny("bert", layers=2)
    for part in student.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    with torch.no_grad():
        for p in student.parameters():
            p.mul_(0.9)
    for loss in losses.values():
        loss.setup(student.config, teacher.config)
    return Distillation(student, FrozenTeacher(teacher), losses, three_classes(), Optimizer(lr=1e-3), Timeline(4, 1))


class Watch(lightning.Callback):
    """Keeps the gradients of the first step and what the student and the teacher looked like in it."""

    def on_train_batch_start(self, trainer, pl_module, batch, index):
        self.modes = pl_module.student.training, pl_module.teacher.model.training

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}


def fit(built: Distillation, size: int, window: int, folder, epochs: int = 1) -> Watch:
    watch = Watch()
    loader = TrainLoader(rows(), LengthGroupedBatchSampler(LENGTHS, size), counted(built), window)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=[CurveLogger(), watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=window,
        default_root_dir=folder,
    )
    trainer.fit(built, loader)
    return watch


def everything() -> dict:
    return {
        "labels": Labels(),
        "logits": Logits(),
        "hidden": HiddenMSE(project=True),
        "attention": AttentionKL(),
        "relations": Relations(heads=2),
    }


class TestWindow:
    @pytest.mark.parametrize(("size", "window"), [(4, 2), (2, 4), (1, 8), (3, 3)])
    def test_gradient_does_not_depend_on_how_the_window_is_split(self, tmp_path, size, window):
        torch.manual_seed(0)
        built = module(**everything())
        start = {name: value.clone() for name, value in built.state_dict().items()}
        expected = fit(built, 8, 1, tmp_path).gradients
        split = module(**everything())
        split.load_state_dict(start)
        gradients = fit(split, size, window, tmp_path).gradients
        assert expected.keys() == gradients.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name], gradient, atol=1e-6, rtol=1e-4, msg=name)

    def test_gradient_is_the_one_of_the_loss_written_down(self, tmp_path):
        """Σ weight · Σ sum / Σ count, by plain autograd."""
        built = module(logits=Logits(weight=Linear(initial=0.5, to=0.0)), hidden=HiddenMSE())
        other = module(logits=Logits(), hidden=HiddenMSE())
        gradients = fit(built, 4, 2, tmp_path).gradients
        other.student.train()
        batch = collate(rows())
        from students.recording.signals import Signals

        loss = 0.0
        for name, weight in (("logits", 0.5), ("hidden", 1.0)):
            term = other.losses[name]
            values = term.at(0, other.timeline)
            total, count = term(
                other.recorder.trace(batch, Signals(logits=True) | term.student_signals),
                other.teacher.trace(batch, term.teacher_signals),
                batch,
                values,
            )
            loss = loss + weight * total / count
        loss.backward()
        for name, p in other.named_parameters():
            if p.grad is not None:
                torch.testing.assert_close(gradients[name], p.grad, atol=1e-6, rtol=1e-4, msg=name)


class TestTeacher:
    def test_is_in_eval_mode_while_the_student_trains(self, tmp_path):
        built = module(logits=Logits())
        built.student.eval()  # as from_pretrained leaves it
        assert fit(built, 4, 1, tmp_path).modes == (True, False)

    def test_is_outside_parameters_state_and_optimizer(self):
        built = module(logits=Logits())
        teacher_ids = {id(p) for p in built.teacher.model.parameters()}
        assert not teacher_ids & {id(p) for p in built.parameters()}
        assert not teacher_ids & {
            id(p) for group in build_optimizer(built.optimizer, built).param_groups for p in group["params"]
        }
        assert not any("teacher" in name for name in built.state_dict())
        assert not any(p.requires_grad for p in built.teacher.model.parameters())

    def test_is_unchanged_by_training(self, tmp_path):
        built = module(**everything())
        before = {name: p.clone() for name, p in built.teacher.model.state_dict().items()}
        fit(built, 4, 1, tmp_path, epochs=2)
        assert all(torch.equal(before[name], p) for name, p in built.teacher.model.state_dict().items())

    def test_runs_no_further_than_a_loss_looks(self, tmp_path):
        built = module(hidden=HiddenMSE(layers={1: 2}))
        ran = []
        for i, block in enumerate(built.teacher.model.bert.encoder.layer):
            block.register_forward_pre_hook(lambda *_, i=i: ran.append(i))
        fit(built, 8, 1, tmp_path)
        assert ran == [0, 1]

    def test_does_not_run_when_only_labels_count(self, tmp_path):
        built = module(labels=Labels(), logits=Logits(start=TimePoint("100%")))
        built.teacher.model.register_forward_pre_hook(lambda *_: pytest.fail("the teacher ran"))
        fit(built, 8, 1, tmp_path)


def test_a_head_that_no_loss_trains_has_no_gradient_and_is_not_decayed(tmp_path):
    built = module(hidden=HiddenMSE())
    before = built.student.classifier.weight.detach().clone()
    assert not any("classifier" in name for name in fit(built, 4, 1, tmp_path).gradients)
    assert torch.equal(built.student.classifier.weight, before)


def test_a_student_equal_to_its_teacher_stays(tmp_path):
    """No loss, no gradient: nothing but weight decay would move it."""
    teacher = tiny("bert", layers=2)
    student = tiny("bert", layers=2)
    losses = {"logits": Logits(), "hidden": HiddenMSE(), "attention": AttentionKL(), "relations": Relations(heads=2)}
    for loss in losses.values():
        loss.setup(student.config, teacher.config)
    for part in student.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    built = Distillation(student, FrozenTeacher(teacher), losses, three_classes(), Optimizer(lr=1e-3), Timeline(1, 1))
    for gradient in fit(built, 8, 1, tmp_path).gradients.values():
        assert float(gradient.abs().max()) < 1e-6


def test_optimizer_decays_matrices_alone():
    groups = build_optimizer(Optimizer(), module(hidden=HiddenMSE(project=True))).param_groups
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert all(p.ndim >= 2 for p in groups[0]["params"])
    assert all(p.ndim < 2 for p in groups[1]["params"])


def test_learning_rate_warms_up_and_falls():
    optimizer, timeline = Optimizer(lr=1.0, warmup=TimePoint("10%")), Timeline(100, 10)
    rates = [optimizer.rate(step, timeline) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == pytest.approx(rates[10], abs=0.05)
    assert rates[-1] == pytest.approx(0.01)
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))


def test_validation_counts_each_row_once(tmp_path):
    built = module(labels=Labels())
    data = DataLoader(rows(), 3, collate_fn=collate)
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.validate(built, data, verbose=False)
    metrics = trainer.callback_metrics
    with torch.no_grad():
        right = sum(
            int(
                (
                    built.student.eval()(**{k: v for k, v in batch.items() if k != "labels"}).logits.argmax(-1)
                    == batch["labels"]
                ).sum()
            )
            for batch in data
        )
    assert float(metrics["val/accuracy"]) == pytest.approx(right / len(LENGTHS))
