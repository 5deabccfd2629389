"""What the loop costs over a hand-written one: the same models, batches, losses, backward and optimizer step.

    python -m benchmarks.overhead [--steps 40] [--rounds 5]

The two take turns within one process; the figure is the ratio of their seconds per step, pair by pair.
"""

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from datasets import Dataset
from lightning import Callback, Trainer
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, DataCollatorWithPadding

from distill.batches import LengthGrouped, Loader
from distill.curves import Curves
from distill.metrics_csv import MetricsCSV
from distill.module import Distillation
from distill.optimizer import Optimizer
from distill.tasks import Classification
from distill.teacher import FrozenTeacher
from losses import HiddenMSE, Logits
from prune_schedules.schedule import Constant, Timeline
from tests.repositories import save_tokenizer


def models() -> tuple[BertForSequenceClassification, BertForSequenceClassification]:
    """A teacher of 6 layers and a student of 3, 384 wide, as small as anybody would distil: the overhead shows most."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 8000,
        "hidden_size": 384,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "num_labels": 2,
    }
    return tuple(BertForSequenceClassification(BertConfig(num_hidden_layers=layers, **shape)) for layers in (6, 3))


def rows(count: int) -> Dataset:
    """Made-up token ids of 32 tokens."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 8000, (count, 32), generator=draw).tolist()
    return Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * 32] * count, "labels": [i % 2 for i in range(count)]}
    )


def by_hand(data: Dataset, collate: DataCollatorWithPadding, steps: int) -> float:
    """Seconds per step of a plain loop."""
    teacher, student = models()
    teacher.eval().requires_grad_(False)
    student.train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    order = LengthGrouped([32] * len(data), 32)
    begin = 0.0
    for step, batch in enumerate(DataLoader(data, batch_sampler=order, collate_fn=collate)):
        if step == 3:
            begin = time.perf_counter()
        labels = batch.pop("labels")
        with torch.no_grad():
            told = teacher(**batch, output_hidden_states=True)
        said = student(**batch, output_hidden_states=True)
        mask = batch["attention_mask"].bool()
        loss = (
            4.0
            * F.kl_div(
                F.log_softmax(said.logits / 2, -1),
                F.log_softmax(told.logits / 2, -1),
                log_target=True,
                reduction="none",
            )
            .sum(-1)
            .mean()
        )
        for layer in range(4):
            error = (said.hidden_states[layer] - told.hidden_states[2 * layer]).square().mean(-1)
            loss = loss + torch.where(mask, error, 0.0).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        del labels
        if step == steps + 2:
            break
    return (time.perf_counter() - begin) / steps


class Clock(Callback):
    """The time from the start of the fourth step to the end of the last."""

    def on_train_batch_start(self, trainer, module, batch, index):
        if index == 3:
            self.begin = time.perf_counter()

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.end = time.perf_counter()


def by_loop(data: Dataset, collate: DataCollatorWithPadding, steps: int, folder: Path) -> float:
    """Seconds per step of ours."""
    teacher, student = models()
    losses = {"logits": Logits(temperature=Constant(2.0)), "hidden": HiddenMSE()}
    for loss in losses.values():
        loss.setup(student.config, teacher.config)
    timeline = Timeline(steps + 3, steps + 3)
    task = Classification(data="none")
    module = Distillation(student, FrozenTeacher(teacher), losses, task, Optimizer(lr=1e-4), timeline)
    loader = Loader(data, LengthGrouped([32] * len(data), 32), collate, 1, module.count)
    table = MetricsCSV(
        folder / "metrics.csv", ["progress", *(f"train/{n}{e}" for n in losses for e in ("", "_weight")), "lr"]
    )
    table.start(0)
    clock = Clock()
    trainer = Trainer(
        max_steps=steps + 3,
        accelerator="cpu",
        logger=[table],
        callbacks=[Curves(), clock],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=True,
        gradient_clip_val=1.0,
        log_every_n_steps=20,
        default_root_dir=folder,
    )
    trainer.fit(module, loader)
    return (clock.end - clock.begin) / steps


def main() -> None:
    """Prints the ratio of each round, its median and its spread."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    words = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = rows(32 * (words.steps + 3))
    with tempfile.TemporaryDirectory() as name:
        from transformers import AutoTokenizer

        save_tokenizer(Path(name))
        collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(name))
        ratios = []
        for number in range(words.rounds):
            # In turn, and in the other order every second time: whoever is first pays for a cold cache.
            both = {}
            for which in ("hand", "loop") if number % 2 else ("loop", "hand"):
                both[which] = (
                    by_hand(data, collate, words.steps)
                    if which == "hand"
                    else by_loop(data, collate, words.steps, Path(name))
                )
            ratios.append(both["loop"] / both["hand"])
            print(
                f"round {number + 1}: by hand {1000 * both['hand']:.1f} ms, loop {1000 * both['loop']:.1f} ms, ratio "
                f"{ratios[-1]:.3f}"
            )
    print(
        f"ratio: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}, "
        f"{torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
