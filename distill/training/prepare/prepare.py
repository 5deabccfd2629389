"""Prepare: load, build and check everything up to the first step."""

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
from distill.data.teachers.own_columns import with_own_tokens
from distill.experiment.experiment import Experiment
from distill.experiment.runs import folder_of
from distill.run_dir.files import write_text
from distill.tasks.augment.augmentation import AugmentedDataset
from distill.teachers.cache import CachedTeacher
from distill.teachers.settings import TEACHER_CACHE
from distill.teachers.teacher import FrozenTeacher
from distill.training.callbacks.display.messages import say
from distill.training.module import Distillation
from distill.training.parts import Parts
from distill.training.prepare.checks.teacher_check import check_outputs
from distill.training.prepare.fingerprints import compare, origin
from distill.training.prepare.float32 import fast_float32
from distill.training.prepare.plan import Plan, plan
from distill.training.prepare.run_folder import ResumePoint, empty_run_dir, has_run, locked_run_dir, prepare_run_dir
from students.weights import count_nonzeros, weight_matrices


@dataclass
class PreparedRun:
    """A run that is ready for its first step."""

    config: Config[Experiment]
    folder: Path
    start: ResumePoint
    plan: Plan
    teachers: dict[str, FrozenTeacher | CachedTeacher]
    """The teachers by name, wrapped by their caches."""
    module: Distillation
    loader: TrainLoader
    validation: DataLoader
    validation_rows: Dataset
    """The validation rows without their lengths."""
    test_rows: Dataset | None
    """The test rows without their lengths, if there are any."""
    collate: Collator
    origin: dict[str, Any]
    """The fingerprints of models, rows and versions; empty on ranks other than 0."""
    matrix_sizes: dict[str, int]
    """The number of parameters of each matrix of the student before training, by name."""
    nonzeros: tuple[int, int]
    """The numbers of nonzero and of all entries of the matrices before training."""
    config_text: str
    """The complete config, as written to ``config.yaml``."""
    notes: list[str]

    @property
    def experiment(self) -> Experiment:
        """Return the config as objects."""
        return self.config.value

    @property
    def parts(self) -> Parts:
        """Return data and models of the run."""
        return self.plan.parts


def prepare(config: Config[Experiment], resume: bool) -> PreparedRun:
    """Load, build and check all that a run needs; write nothing but the teacher's cache.

    Args:
        config: the config of the run.
        resume: whether to resume the run in its folder.

    Raises:
        ConfigError: at the first key that does not fit.
    """
    experiment, folder, config_text = config.value, folder_of(config.value), to_yaml(config.value)
    start = prepare_run_dir(config, folder, resume)
    lightning.seed_everything(experiment.seed, verbose=False)
    notes = [note for note in [fast_float32()] if note]
    run_plan = plan(config, folder, start.checkpoint is None, start.checkpoint is not None)
    parts, trainer, task = run_plan.parts, run_plan.trainer, experiment.task
    fingerprints = origin(experiment, run_plan) if trainer.is_global_zero else {}
    if trainer.is_global_zero and start.origin:
        notes += compare(config, folder, start.origin, fingerprints)
    train_rows, teachers = training_rows(experiment, parts, run_plan.order, str(trainer.precision))
    module = Distillation(
        parts.student,
        parts.online_teacher or experiment.build_teacher(teachers),
        experiment.losses,
        task,
        experiment.optimizer,
        run_plan.timeline,
        experiment.seed,
    )
    decoder_start = getattr(parts.student.config, "decoder_start_token_id", None)
    collate = Collator(parts.tokenizer, decoder_start, task.finalize_batch)
    train_collate = Collator(parts.tokenizer, decoder_start, task.finalize_batch, experiment.losses.values())
    check_outputs(config, teachers, collate([parts.rows["train"].remove_columns("length")[0]]))
    rows = parts.rows["validation"].remove_columns("length")
    groups = sequential_batches(task.row_groups(rows), 2 * task.batch_size, trainer.world_size, trainer.global_rank)
    return PreparedRun(
        config=config,
        folder=folder,
        start=start,
        plan=run_plan,
        teachers=teachers,
        module=module,
        loader=TrainLoader(train_rows, run_plan.order, train_collate, trainer.accumulate_grad_batches),
        validation=DataLoader(rows, batch_sampler=groups, collate_fn=collate),
        validation_rows=rows,
        test_rows=parts.rows["test"].remove_columns("length") if "test" in parts.rows else None,
        collate=collate,
        origin=fingerprints,
        matrix_sizes={name: weight.numel() for name, weight in weight_matrices(parts.student).items()},
        nonzeros=count_nonzeros(parts.student),
        config_text=config_text,
        notes=notes,
    )


@contextmanager
def enter_run_dir(prepared: PreparedRun) -> Iterator[None]:
    """Lock the run folder while the block runs, and write the config into it; on ranks other than 0 do nothing.

    A new run that ends before its first step leaves nothing, so that it can be started again.

    Raises:
        ConfigError: if another process holds the folder, or the run is done and has no checkpoint.
    """
    if not prepared.plan.trainer.is_global_zero:
        yield
        return
    with locked_run_dir(prepared.config, prepared.folder, prepared.start):
        is_new = not has_run(prepared.folder)
        try:
            write_text(prepared.folder / "config.yaml", prepared.config_text)
            name, display, plan = prepared.experiment.name, prepared.experiment.display, prepared.plan
            say(display, name, "plan", plan.text(name), plan.to_json())
            for line in prepared.start.messages():
                say(display, name, "start", f"{name}: {line}", {"message": line})
            yield
        except BaseException:
            if is_new and prepared.plan.trainer.global_step == 0:
                empty_run_dir(prepared.folder)
            raise


def training_rows(
    experiment: Experiment, parts: Parts, order: LengthGroupedBatchSampler, precision: str
) -> tuple[Dataset, dict[str, FrozenTeacher | CachedTeacher]]:
    """Return the training rows, augmented if configured, and the teachers, wrapped by their caches."""
    rows, teachers = parts.rows["train"].remove_columns("length"), dict(parts.teachers)
    task = experiment.task
    if steps := [step.apply for step in task.augmentations()] + ([task.redraw] if task.redraws_rows else []):
        encoders, texts = getattr(task, "teacher_encoders", {}), getattr(task, "texts", [])
        return AugmentedDataset(rows, with_own_tokens(steps, encoders, parts.tokenizer, len(texts)), order), teachers
    cached = [name for name, teacher in experiment.teachers().items() if teacher.cache]
    for name in cached:
        folder = Path(experiment.output) / TEACHER_CACHE
        own = parts.teachers[name].own_tokens
        token_ids = list(rows[own.key("input_ids") if own else "input_ids"])
        if "decoder_attention_mask" in rows.column_names:
            token_ids = [ids + written for ids, written in zip(token_ids, rows["labels"], strict=True)]
        teachers[name] = CachedTeacher(teachers[name], token_ids, folder, precision)
    return rows.add_column("row", list(range(len(rows)))) if cached else rows, teachers
