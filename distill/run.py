"""A run, from its config to its report."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset
from transformers import DataCollatorWithPadding

from distill.assemble import Parts, assemble
from distill.augment import Augmented
from distill.batches import LengthGrouped, Loader
from distill.cache import CachedTeacher
from distill.config import Config, load, to_yaml
from distill.deploy import deploy
from distill.ensemble import united
from distill.experiment import Experiment
from distill.finish import details, latency_samples, measure
from distill.folder import claim
from distill.module import Distillation
from distill.passed import Passed
from distill.publish import doubts, publish
from distill.report import Report, command_line
from distill.schema import spelling
from distill.speed import fast_float32
from distill.teacher import FrozenTeacher
from distill.timeline import entries, table
from distill.trainer import make_callbacks, make_loggers, make_trainer, time_of


def run(file: str | Path, resume: bool = False, **overrides: Any) -> Report | None:
    """Trains, compresses, exports and measures what a YAML file says.

    Args:
        file: sought as given, then in ``configs/``.
        resume: go on with the run in its folder, exactly where it stopped.
        overrides: by dotted key, as in ``run("tinybert.yaml", **{"losses.logits.weight": 0.5})``.

    Returns:
        The report; on ranks other than 0, nothing.

    Raises:
        ConfigError: the user's input is wrong, told in one line.
        Interrupted: Ctrl-C or SIGTERM came; the checkpoint is written.
    """
    config = load(file, Experiment, overrides)
    config.value.name = config.value.name or Path(file).stem
    return carry_out(config, resume)


def carry_out(config: Config[Experiment], resume: bool = False) -> Report | None:
    """``run`` for a config that is read already."""
    experiment, began = config.value, time.time()
    folder, resolved = Path(experiment.output) / experiment.name, to_yaml(experiment)
    checkpoint, at_step = claim(config, folder, resolved, resume)
    lightning.seed_everything(experiment.seed, verbose=False)
    notes = [note for note in [fast_float32()] if note]

    parts = assemble(config)
    trainer = make_trainer(config, folder)
    order = LengthGrouped(
        parts.rows["train"]["length"],
        experiment.task.batch_size,
        experiment.seed,
        trainer.world_size,
        trainer.global_rank,
    )
    timeline = time_of(config, trainer, len(order))
    what = entries(config, timeline)
    train, teachers = training_rows(experiment, parts, order, str(trainer.precision))
    module = Distillation(
        parts.student,
        parts.companion or united(teachers, experiment.teacher),
        experiment.losses,
        experiment.task,
        experiment.optimizer,
        timeline,
        experiment.seed,
    )
    collate = DataCollatorWithPadding(parts.tokenizer)
    rows = parts.rows["validation"].remove_columns("length")
    loader = Loader(train, order, collate, trainer.accumulate_grad_batches, module.count)
    validation = DataLoader(
        rows,
        2 * experiment.task.batch_size,
        collate_fn=collate,
        sampler=range(trainer.global_rank, len(rows), trainer.world_size),
    )

    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(resolved)
        print(table(what, timeline))
    trainer.callbacks.extend(make_callbacks(experiment, folder, timeline, parts))
    trainer.loggers = make_loggers(experiment, folder, module, at_step)
    trainer.fit(module, loader, validation, ckpt_path=checkpoint)
    notes += [f"{name}: {found.note()}" for name, found in teachers.items() if isinstance(found, CachedTeacher)]
    notes += [callback.note() for callback in trainer.callbacks if isinstance(callback, Passed)]
    if not trainer.is_global_zero:
        return None

    batches = list(DataLoader(rows, 2 * experiment.task.batch_size, collate_fn=collate))
    deployed = deploy(experiment, module, folder, parts.tokenizer, batches)
    models, exports, logits = measure(
        experiment.task, experiment.teacher, parts.teachers, deployed, folder, batches, latency_samples(rows, collate)
    )
    report = Report(
        name=experiment.name,
        task=spelling(type(experiment.task)),
        main_metric=experiment.task.main_metric,
        started=datetime.fromtimestamp(began).isoformat(timespec="seconds"),
        seconds=round(time.time() - began, 1),
        command=command_line(),
        seed=experiment.seed,
        models=models,
        timeline=what,
        exports=exports,
        parity=deployed.parity,
        warnings=[*parts.warnings, *doubts(models, exports, deployed)],
        notes=notes,
        folder=folder,
    )
    skipped = [
        f"{name}: {why}" for callback in trainer.callbacks for name, why in getattr(callback, "skipped", {}).items()
    ]
    publish(
        report,
        details(experiment.task, parts.tables["validation"], parts.texts, parts.labels, logits, deployed, skipped),
        trainer.loggers,
    )
    return report


def training_rows(
    experiment: Experiment, parts: Parts, order: LengthGrouped, precision: str
) -> tuple[Dataset, dict[str, FrozenTeacher | CachedTeacher]]:
    """The rows as the loop reads them, and the teachers, those with a cache seen through it."""
    rows, teachers = parts.rows["train"].remove_columns("length"), dict(parts.teachers)
    if steps := experiment.task.augmentations():
        return Augmented(rows, steps, order), teachers
    cached = [name for name, teacher in experiment.teachers().items() if teacher.cache]
    for name in cached:
        folder = Path(experiment.output) / ".teacher-cache"
        teachers[name] = CachedTeacher(teachers[name], list(rows["input_ids"]), folder, precision)
    return rows.add_column("row", list(range(len(rows)))) if cached else rows, teachers
