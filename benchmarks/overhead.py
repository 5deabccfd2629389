"""Overhead of the training loop over a plain PyTorch loop with the same models, batches, losses and optimizer.

    python -m benchmarks.overhead [--steps 100]

The two take turns step by step in one process, so that a change of the machine's speed affects both. The result is the
ratio of the medians of their seconds per step.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from datasets import Dataset
from lightning import Callback, Trainer
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, DataCollatorWithPadding

from benchmarks.turns import quartiles
from distill.data.batches import LengthGroupedBatchSampler, TrainLoader
from distill.experiment.monitoring import Display
from distill.experiment.optimizer import Optimizer
from distill.tasks.classes import Classes
from distill.tasks.kinds.texts import Classification
from distill.teachers.teacher import FrozenTeacher
from distill.training.callbacks.curves import CurveLogger
from distill.training.callbacks.display.callback import ProgressDisplay
from distill.training.callbacks.metrics_csv import MetricsCSV
from distill.training.module import Distillation
from losses.loss import loss_counts
from losses.outputs.logits import Logits
from losses.states.hidden import HiddenMSE
from prune_schedules.schedule import Constant, Timeline
from students.recording.batch import Batch
from tests.helpers.repositories import save_tokenizer

WARM_UP = 5
"""Steps that are not measured."""


def make_models() -> tuple[BertForSequenceClassification, BertForSequenceClassification]:
    """Return a teacher of 6 layers and a student of 3, 384 wide: small models, where the overhead is largest."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 8000,
        "hidden_size": 384,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "num_labels": 2,
    }
    return tuple(BertForSequenceClassification(BertConfig(num_hidden_layers=layers, **shape)) for layers in (6, 3))


def make_rows(count: int) -> Dataset:
    """Return rows of 32 random token ids."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 8000, (count, 32), generator=generator).tolist()
    return Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * 32] * count, "labels": [i % 2 for i in range(count)]}
    )


def plain_loop(data: Dataset, collate: DataCollatorWithPadding) -> Iterator[None]:
    """Run a plain loop; each ``next`` is one step."""
    teacher, student = make_models()
    teacher.eval().requires_grad_(False)
    student.train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    order = LengthGroupedBatchSampler([32] * len(data), 32)
    for batch in DataLoader(data, batch_sampler=order, collate_fn=collate):
        del batch["labels"]
        with torch.no_grad():
            teacher_outputs = teacher(**batch, output_hidden_states=True)
        outputs = student(**batch, output_hidden_states=True)
        mask = batch["attention_mask"].bool()
        loss = (
            4.0
            * F.kl_div(
                F.log_softmax(outputs.logits / 2, -1),
                F.log_softmax(teacher_outputs.logits / 2, -1),
                log_target=True,
                reduction="none",
            )
            .sum(-1)
            .mean()
        )
        for layer in range(4):
            difference = outputs.hidden_states[layer] - teacher_outputs.hidden_states[2 * layer]
            error = difference.square().mean(-1)
            loss = loss + torch.where(mask, error, 0.0).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        yield


class PairedSteps(Callback):
    """A callback that runs a step of the plain loop after each step of the trainer, and records the seconds of both."""

    def __init__(self, plain: Iterator[None]):
        self.plain, self.loop_seconds, self.plain_seconds = plain, [], []
        self.begin = time.perf_counter()

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        """Measure the step that began when the last plain one ended, then a plain one."""
        ended = time.perf_counter()
        next(self.plain)
        self.loop_seconds.append(ended - self.begin)
        self.begin = time.perf_counter()
        self.plain_seconds.append(self.begin - ended)


def time_steps(data: Dataset, collate: DataCollatorWithPadding, steps: int, folder: Path) -> PairedSteps:
    """Train with both loops in turn, and return the callback with their seconds."""
    teacher, student = make_models()
    losses = {"logits": Logits(temperature=Constant(2.0)), "hidden": HiddenMSE()}
    for loss in losses.values():
        loss.setup(student.config, teacher.config)
    timeline = Timeline(steps, steps)
    task = Classification(data="none")
    task.classes = Classes(["0", "1"], ["0", "1"])
    module = Distillation(student, FrozenTeacher(teacher), losses, task, Optimizer(lr=1e-4), timeline)

    def counted(make_rows: list[dict]) -> Batch:
        batch = collate(make_rows)
        return {**batch, "counts": loss_counts(losses.values(), batch)}

    loader = TrainLoader(data, LengthGroupedBatchSampler([32] * len(data), 32), counted, 1)
    table = MetricsCSV(
        folder / "metrics.csv", ["progress", "loss", *(f"train/{n}{e}" for n in losses for e in ("", "_weight")), "lr"]
    )
    table.start(0)
    curves = CurveLogger()
    display = ProgressDisplay(Display(), "overhead", [], curves, "val/accuracy")
    paired_steps = PairedSteps(plain_loop(data, collate))
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=[table],
        callbacks=[curves, display, paired_steps],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        gradient_clip_val=1.0,
        log_every_n_steps=20,
        default_root_dir=folder,
    )
    trainer.fit(module, loader)
    return paired_steps


def main() -> None:
    """Print the ratio of the medians, and the quartiles of the ratios of paired steps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        save_tokenizer(Path(name))
        collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(name))
        paired_steps = time_steps(make_rows(32 * steps), collate, steps, Path(name))
    loop, plain = paired_steps.loop_seconds[WARM_UP:], paired_steps.plain_seconds[WARM_UP:]
    low, _, high = quartiles(loop, plain)
    print(
        f"plain {1000 * statistics.median(plain):.1f} ms, loop {1000 * statistics.median(loop):.1f} ms, ratio "
        f"{statistics.median(loop) / statistics.median(plain):.3f}, half of the pairs within {low:.3f} to {high:.3f}, "
        f"{torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
