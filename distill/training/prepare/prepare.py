"""Prepare: everything up to the first step, loaded, built and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset

from distill.config.config import Config
from distill.config.writer import to_yaml
from distill.data.batches import Collator, LengthGroupedBatchSampler, TrainLoader, sequential_batches
from distill.experiment.experiment import Experiment
from distill.experiment.runs import folder_of
from distill.run_dir.files import write_text
from distill.tasks.augment.augmentation import AugmentedDataset
from distill.teachers.cache import CachedTeacher
from distill.teachers.ensemble import build_teacher
from distill.teachers.teacher import FrozenTeacher
from distill.training.module import Distillation
from distill.training.parts import Parts
from distill.training.prepare.checks.teacher_check import check_outputs
from distill.training.prepare.fingerprints import compare, origin
from distill.training.prepare.float32 import fast_float32
from distill.training.prepare.plan import Plan, plan
from distill.training.prepare.run_folder import Start, entered, prepare_run_dir
from students.weights import count_nonzeros, weight_matrices


@dataclass
class Prepared:
    """A run that only has to be started."""

    config: Config[Experiment]
    folder: Path
    start: Start
    plan: Plan
    teachers: dict[str, FrozenTeacher | CachedTeacher]
    """As the loop runs them, those with a cache seen through it."""
    module: Distillation
    loader: TrainLoader
    validation: DataLoader
    validation_rows: Dataset
    """Without their lengths."""
    collate: Collator
    origin: dict[str, Any]
    """Fingerprints of what the run is begun with; empty on ranks other than 0."""
    matrix_sizes: dict[str, int]
    """The parameters of each of the student's matrices before training, by name."""
    nonzeros: tuple[int, int]
    """The entries of all matrices before training that are not zero, and how many there are."""
    config_text: str
    """What ``config.yaml`` will hold: the complete config."""
    notes: list[str]

    @property
    def experiment(self) -> Experiment:
        """The config as objects."""
        return self.config.value

    @property
    def parts(self) -> Parts:
        """What the run is made of."""
        return self.plan.parts


def prepare(config: Config[Experiment], resume: bool) -> Prepared:
    """Load, build and check all that a run needs; nothing is written but the teacher's cache.

    Args:
        config: of the run.
        resume: whether to go on with the run in its folder.

    Raises:
        ConfigError: at the first thing that does not fit.
    """
    experiment, folder, config_text = config.value, folder_of(config.value), to_yaml(config.value)
    start = prepare_run_dir(config, folder, resume)
    lightning.seed_everything(experiment.seed, verbose=False)
    notes = [note for note in [fast_float32()] if note]
    planned = plan(config, folder, start.checkpoint is None, start.checkpoint is not None)
    parts, trainer, task = planned.parts, planned.trainer, experiment.task
    facts = origin(experiment, planned) if trainer.is_global_zero else {}
    if trainer.is_global_zero and start.origin:
        notes += compare(config, folder, start.origin, facts)
    train_rows, teachers = training_rows(experiment, parts, planned.order, str(trainer.precision))
    module = Distillation(
        parts.student,
        parts.companion or build_teacher(teachers, experiment.teacher, task),
        experiment.losses,
        task,
        experiment.optimizer,
        planned.timeline,
        experiment.seed,
    )
    decoder_start = getattr(parts.student.config, "decoder_start_token_id", None)
    collate = Collator(parts.tokenizer, decoder_start, task.finalize_batch)
    counting = Collator(parts.tokenizer, decoder_start, task.finalize_batch, experiment.losses.values())
    check_outputs(config, teachers, collate([parts.rows["train"].remove_columns("length")[0]]))
    rows = parts.rows["validation"].remove_columns("length")
    groups = sequential_batches(task.row_groups(rows), 2 * task.batch_size, trainer.world_size, trainer.global_rank)
    return Prepared(
        config=config,
        folder=folder,
        start=start,
        plan=planned,
        teachers=teachers,
        module=module,
        loader=TrainLoader(train_rows, planned.order, counting, trainer.accumulate_grad_batches),
        validation=DataLoader(rows, batch_sampler=groups, collate_fn=collate),
        validation_rows=rows,
        collate=collate,
        origin=facts,
        matrix_sizes={name: weight.numel() for name, weight in weight_matrices(parts.student).items()},
        nonzeros=count_nonzeros(parts.student),
        config_text=config_text,
        notes=notes,
    )


@contextmanager
def enter_run_dir(prepared: Prepared) -> Iterator[None]:
    """Hold the folder of the run while the block runs, its config in it; on ranks other than 0 do nothing.

    Raises:
        ConfigError: if another process has come first, or the run is done and cannot go on.
    """
    if not prepared.plan.trainer.is_global_zero:
        yield
        return
    with entered(prepared.config, prepared.folder, prepared.start):
        write_text(prepared.folder / "config.yaml", prepared.config_text)
        name = prepared.experiment.name
        print(prepared.plan.text(name), flush=True)
        for line in prepared.start.messages():
            print(f"{name}: {line}", flush=True)
        yield


def training_rows(
    experiment: Experiment, parts: Parts, order: LengthGroupedBatchSampler, precision: str
) -> tuple[Dataset, dict[str, FrozenTeacher | CachedTeacher]]:
    """Return the rows as the loop reads them, and the teachers, those with a cache seen through it."""
    rows, teachers = parts.rows["train"].remove_columns("length"), dict(parts.teachers)
    task = experiment.task
    if steps := [step.apply for step in task.augmentations()] + ([task.redraw] if task.redraws_rows else []):
        return AugmentedDataset(rows, steps, order), teachers
    cached = [name for name, teacher in experiment.teachers().items() if teacher.cache]
    for name in cached:
        folder = Path(experiment.output) / ".teacher-cache"
        token_ids = list(rows["input_ids"])
        if "decoder_attention_mask" in rows.column_names:
            token_ids = [ids + written for ids, written in zip(token_ids, rows["labels"], strict=True)]
        teachers[name] = CachedTeacher(teachers[name], token_ids, folder, precision)
    return rows.add_column("row", list(range(len(rows)))) if cached else rows, teachers
