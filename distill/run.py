"""A run, from its config to its report."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset

from distill.assemble import Parts, assemble
from distill.augment import Augmented
from distill.batches import Collate, LengthGrouped, Loader, in_turn
from distill.cache import CachedTeacher
from distill.config import Config, load, to_yaml
from distill.deploy import deploy
from distill.ensemble import united
from distill.experiment import Experiment
from distill.finish import details, latency_samples, measure
from distill.folder import claim
from distill.module import Distillation
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
    task, world, rank = experiment.task, trainer.world_size, trainer.global_rank
    lengths, kinds = list(parts.rows["train"]["length"]), {name: task.kinds(rows) for name, rows in parts.rows.items()}
    order = LengthGrouped(lengths, task.batch_size, experiment.seed, world, rank, kinds["train"])
    timeline = time_of(config, trainer, len(order))
    what = entries(config, timeline)
    train, teachers = training_rows(experiment, parts, order, str(trainer.precision))
    module = Distillation(
        parts.student,
        united(teachers, experiment.teacher, task),
        experiment.losses,
        task,
        experiment.optimizer,
        timeline,
        experiment.seed,
    )
    start = getattr(parts.student.config, "decoder_start_token_id", None)
    collate = Collate(parts.tokenizer, start, task.finish)
    rows = parts.rows["validation"].remove_columns("length")
    loader = Loader(train, order, collate, trainer.accumulate_grad_batches, module.count)
    mine, whole = (in_turn(kinds["validation"], 2 * task.batch_size, *ranks) for ranks in ((world, rank), ()))
    validation = DataLoader(rows, batch_sampler=mine, collate_fn=collate)

    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(resolved)
        print(table(what, timeline))
    trainer.callbacks.extend(make_callbacks(experiment, folder, timeline))
    trainer.loggers = make_loggers(experiment, folder, module, at_step)
    trainer.fit(module, loader, validation, ckpt_path=checkpoint)
    notes += parts.notes
    notes += [f"{name}: {found.note()}" for name, found in teachers.items() if isinstance(found, CachedTeacher)]
    if not trainer.is_global_zero:
        return None

    batches = list(DataLoader(rows, batch_sampler=whole, collate_fn=collate))
    deployed = deploy(experiment, module, folder, parts.tokenizer, batches)
    models, exports, judged = measure(
        task, experiment.teacher, parts.teachers, deployed, folder, batches, latency_samples(rows, collate)
    )
    report = Report(
        name=experiment.name,
        task=spelling(type(task)),
        main_metric=task.main_metric,
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
        details(task, judged, rows["row"], deployed, skipped),
        trainer.loggers,
    )
    return report


def training_rows(
    experiment: Experiment, parts: Parts, order: LengthGrouped, precision: str
) -> tuple[Dataset, dict[str, FrozenTeacher | CachedTeacher]]:
    """The rows as the loop reads them, and the teachers, those with a cache seen through it."""
    rows, teachers = parts.rows["train"].remove_columns("length"), dict(parts.teachers)
    task = experiment.task
    if steps := [step.apply for step in task.augmentations()] + [task.draw] * task.redrawn:
        return Augmented(rows, steps, order), teachers
    cached = [name for name, teacher in experiment.teachers().items() if teacher.cache]
    for name in cached:
        folder = Path(experiment.output) / ".teacher-cache"
        teachers[name] = CachedTeacher(teachers[name], list(rows["input_ids"]), folder, precision)
    return rows.add_column("row", list(range(len(rows)))) if cached else rows, teachers
