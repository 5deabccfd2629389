"""A run, from its config to its report; and the runs of a file, one after the other."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset

from distill.config.loader import Config, to_yaml
from distill.config.schema import spelling
from distill.data.batches import Collate, LengthGrouped, Loader, in_turn
from distill.evaluation.evaluate import asked_of, details, measure
from distill.experiment.experiment import Experiment
from distill.experiment.runs import folder_of, read
from distill.export.deploy import deploy, matrices
from distill.reporting.publish import publish
from distill.reporting.report import Report, command_line
from distill.reporting.report_warnings import removed_units, report_warnings
from distill.run_dir.files import write_text
from distill.tasks.augment import Augmented
from distill.teachers.cache import CachedTeacher
from distill.teachers.early_stop import Passed
from distill.teachers.ensemble import united
from distill.teachers.teacher import FrozenTeacher
from distill.training.callbacks.checkpoints import Best, Origin
from distill.training.callbacks.metrics_csv import read_rows
from distill.training.float32 import fast_float32
from distill.training.module import Distillation
from distill.training.parts import Parts
from distill.training.prepare.checks.teacher_check import check_outputs
from distill.training.prepare.documents import remaining, wait_for_rank_0
from distill.training.prepare.fingerprints import compare, origin
from distill.training.prepare.plan import plan
from distill.training.prepare.run_folder import Resume, claim, entered, tidy
from distill.training.stop import Stop
from distill.training.timeline import early
from distill.training.trainer import make_callbacks, make_loggers
from prune_schedules.scores.keep import filled
from students.weights import nonzeros


def run(file: str | Path, resume: Resume = False, **overrides: Any) -> Report | None:
    """Trains, compresses, exports and measures what a YAML file says.

    Args:
        file: sought as given, then in ``configs/``.
        resume: go on with the run in its folder, exactly where it stopped; of several, those done are left out.
            ``auto``: go on with what was begun, begin what was not, and leave out what is done.
        overrides: by dotted key, as in ``run("tinybert.yaml", **{"losses.logits.weight": 0.5})``.

    Returns:
        The report, of several runs that of the last; on ranks other than 0, and if nothing was left to do, nothing.

    Raises:
        ConfigError: the user's input is wrong, told in one line.
        Interrupted: Ctrl-C or SIGTERM came; if steps were being made, the checkpoint is written.
    """
    with Stop() as stop:
        reports = list(carry_out_all(read(file, overrides), resume, stop))
    return reports[-1] if reports else None


def carry_out_all(configs: list[Config[Experiment]], resume: Resume, stop: Stop) -> Iterator[Report | None]:
    """Carries out the runs of a file in their order, and gives the report of each."""
    for at, (config, begun) in enumerate(remaining(configs, resume)):
        if at:
            wait_for_rank_0()
            gc.collect()  # the models of the run before, which its trainer holds in circles
        yield carry_out(config, begun, stop)


def carry_out(config: Config[Experiment], resume: bool, stop: Stop) -> Report | None:
    """``run`` for a config that is read already, and what signals ask for."""
    with ExitStack() as held:
        return _carry_out(config, resume, stop, held)


def _carry_out(config: Config[Experiment], resume: bool, stop: Stop, held: ExitStack) -> Report | None:
    experiment, began = config.value, time.time()
    folder, resolved = folder_of(experiment), to_yaml(experiment)
    start_at = claim(config, folder, resume)
    lightning.seed_everything(experiment.seed, verbose=False)
    notes = [note for note in [fast_float32()] if note]

    planned = plan(config, folder, start_at.checkpoint is None, start_at.checkpoint is not None)
    parts, trainer, order, timeline = planned.parts, planned.trainer, planned.order, planned.timeline
    task, ranks = experiment.task, (trainer.world_size, trainer.global_rank)
    facts = origin(experiment, planned) if trainer.is_global_zero else {}
    if trainer.is_global_zero and start_at.origin:
        notes += compare(config, folder, start_at.origin, facts)
    train, teachers = training_rows(experiment, parts, order, str(trainer.precision))
    module = Distillation(
        parts.student,
        parts.companion or united(teachers, experiment.teacher, task),
        experiment.losses,
        task,
        experiment.optimizer,
        timeline,
        experiment.seed,
    )
    whole = {name: weight.numel() for name, weight in matrices(parts.student).items()}
    begun = nonzeros(parts.student)
    start = getattr(parts.student.config, "decoder_start_token_id", None)
    collate = Collate(parts.tokenizer, start, task.finish)
    rows = parts.rows["validation"].remove_columns("length")
    check_outputs(config, teachers, collate([parts.rows["train"].remove_columns("length")[0]]))
    loader = Loader(train, order, collate, trainer.accumulate_grad_batches, module.count)
    in_groups = in_turn(task.kinds(rows), 2 * task.batch_size, *ranks)
    validation = DataLoader(rows, batch_sampler=in_groups, collate_fn=collate)

    if trainer.is_global_zero:
        held.enter_context(entered(config, folder, start_at))
        write_text(folder / "config.yaml", resolved)
        print(planned.text(experiment.name), flush=True)
        for line in start_at.messages():
            print(f"{experiment.name}: {line}", flush=True)
    trainer.callbacks.extend([*make_callbacks(experiment, folder, timeline, parts, stop), Origin(facts)])
    trainer.loggers = make_loggers(experiment, folder, module, start_at.curve_rows)
    stop.take_over(trainer)
    trainer.fit(module, loader, validation, ckpt_path=start_at.checkpoint)
    if module.shards:
        module.shards.gather()
    notes += parts.notes
    notes += [f"{name}: {found.note()}" for name, found in teachers.items() if isinstance(found, CachedTeacher)]
    notes += [callback.note() for callback in trainer.callbacks if isinstance(callback, Passed)]
    if not trainer.is_global_zero:
        return None

    best = next(callback for callback in trainer.callbacks if isinstance(callback, Best))
    best.load_into(module)
    units = removed_units(experiment)
    asked, own = asked_of(task, rows, collate, parts.vocabulary, trainer.world_size)
    deployed = deploy(experiment, module, folder, parts.tokenizer, asked.batches, own.batches, whole, parts.vocabulary)
    models, exports, judged = measure(task, experiment.teacher, parts.teachers, deployed, asked, own)
    curves = read_rows(folder / "metrics.csv")
    warned = report_warnings(
        experiment,
        timeline,
        curves,
        own.batches,
        models,
        judged,
        exports,
        deployed,
        units,
        scored=bool(planned.preflight.scores),
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
        timeline=planned.entries,
        exports=exports,
        parity=deployed.parity,
        warnings=[
            *planned.preflight.warnings,
            *parts.warnings,
            *best.warnings,
            *early(experiment, timeline),
            *warned,
            *filled(begun, nonzeros(deployed.model)),
        ],
        notes=notes + deployed.also,
        preflight=planned.preflight.to_json(),
        folder=folder,
    )
    left_out = [getattr(callback, "skipped", {}) for callback in trainer.callbacks]
    skipped = [f"{name}: {why}" for each in left_out for name, why in each.items()]
    publish(report, details(task, judged, rows["row"], deployed, skipped), trainer.loggers)
    tidy(folder)
    return report


def training_rows(
    experiment: Experiment, parts: Parts, order: LengthGrouped, precision: str
) -> tuple[Dataset, dict[str, FrozenTeacher | CachedTeacher]]:
    """The rows as the loop reads them, and the teachers, those with a cache seen through it."""
    rows, teachers = parts.rows["train"].remove_columns("length"), dict(parts.teachers)
    task = experiment.task
    if steps := [step.apply for step in task.augmentations()] + ([task.draw] if task.redrawn else []):
        return Augmented(rows, steps, order), teachers
    cached = [name for name, teacher in experiment.teachers().items() if teacher.cache]
    for name in cached:
        folder = Path(experiment.output) / ".teacher-cache"
        read = list(rows["input_ids"])
        if "decoder_attention_mask" in rows.column_names:
            read = [ids + written for ids, written in zip(read, rows["labels"], strict=True)]
        teachers[name] = CachedTeacher(teachers[name], read, folder, precision)
    return rows.add_column("row", list(range(len(rows)))) if cached else rows, teachers
