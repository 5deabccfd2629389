"""Run the experiments of a file: each is prepared, trained, exported, evaluated and reported."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.config.config import Config
from distill.evaluation.evaluate import eval_batches, evaluate
from distill.evaluation.on_test import evaluate_on_test
from distill.experiment.experiment import Experiment
from distill.experiment.runs import read_runs
from distill.export.export import export
from distill.export.teacher import exported_teacher
from distill.reporting.report import Report
from distill.reporting.write_report import write_report
from distill.training.callbacks.display.quiet import silence_libraries
from distill.training.callbacks.trackers.loggers import open_loggers
from distill.training.prepare.documents import remaining_runs, wait_for_rank_0
from distill.training.prepare.prepare import enter_run_dir, prepare
from distill.training.prepare.run_folder import Resume, remove_backups
from distill.training.stop import StopHandler
from distill.training.train import train


def run(file: str | Path, resume: Resume = False, **overrides: Any) -> Report | None:
    """Run all experiments of a YAML file.

    Args:
        file: looked up as given, then in ``configs/``.
        resume: continue the run in its folder exactly where it stopped; finished runs are skipped. ``auto`` also
            starts the runs that have not been started.
        overrides: by dotted key, as in ``run("tinybert.yaml", **{"losses.logits.weight": 0.5})``.

    Returns:
        The report of the last run; None on ranks other than 0, or if all runs were finished before.

    Raises:
        ConfigError: invalid user input, described in one line.
        Interrupted: Ctrl-C or SIGTERM; during training, a checkpoint was written.
    """
    with StopHandler() as stop, silence_libraries():
        reports = list(run_experiments(read_runs(file, overrides), resume, stop))
    return reports[-1] if reports else None


def run_experiments(configs: list[Config[Experiment]], resume: Resume, stop: StopHandler) -> Iterator[Report | None]:
    """Run the experiments of a file in order, and yield the report of each."""
    for index, (config, is_started) in enumerate(remaining_runs(configs, resume)):
        if index:
            wait_for_rank_0()
            gc.collect()  # frees the models of the run before, which its trainer holds in reference cycles
        yield run_experiment(config, is_started, stop)


def run_experiment(config: Config[Experiment], resume: bool, stop: StopHandler) -> Report | None:
    """Run one experiment; return its report, or None on ranks other than 0.

    Args:
        config: of the experiment.
        resume: whether to continue the run in its folder.
        stop: tells whether a signal asked the run to end.
    """
    prepared = prepare(config, resume)
    experiment, parts, plan = prepared.experiment, prepared.parts, prepared.plan
    start = prepared.start.step, prepared.start.curve_rows
    with (
        enter_run_dir(prepared),
        open_loggers(
            config, prepared.folder, plan.trainer, [str(name) for name in prepared.module.metrics], plan.entries, start
        ),
    ):
        trained = train(prepared, stop)
        if trained is None:
            return None
        teacher_batches, student_batches = eval_batches(
            experiment.task, prepared.validation_rows, prepared.collate, parts.vocabulary, plan.trainer.world_size
        )
        deployed = export(
            experiment,
            prepared.module,
            prepared.folder,
            parts.tokenizer,
            teacher_batches.batches,
            student_batches.batches,
            prepared.matrix_sizes,
            parts.vocabulary,
        )
        with exported_teacher(deployed, parts.teachers, teacher_batches.batches[0], prepared.folder) as teacher_file:
            evaluation = evaluate(
                experiment.task,
                experiment.teacher,
                parts.teachers,
                deployed,
                teacher_batches,
                student_batches,
                teacher_file,
            )
        test_metrics = None
        if prepared.test_rows is not None:
            task = experiment.task.on_test_rows()
            batches = eval_batches(task, prepared.test_rows, prepared.collate, parts.vocabulary)
            thresholds = {name: result.threshold for name, result in evaluation.results.items()}
            test_metrics = evaluate_on_test(task, experiment.teacher, evaluation.runners, *batches, thresholds)
        report = write_report(prepared, trained, deployed, evaluation, student_batches.batches, test_metrics)
        remove_backups(prepared.folder)
    return report
