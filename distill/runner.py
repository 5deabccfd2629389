"""A run in five steps: prepare, train, export, evaluate, report; and the runs of a file in order."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.config.config import Config
from distill.evaluation.evaluate import eval_batches, evaluate
from distill.experiment.experiment import Experiment
from distill.experiment.runs import read_runs
from distill.export.export import export
from distill.reporting.report import Report
from distill.reporting.write_report import write_report
from distill.training.prepare.documents import remaining_runs, wait_for_rank_0
from distill.training.prepare.prepare import enter_run_dir, prepare
from distill.training.prepare.run_folder import Resume, remove_backups
from distill.training.stop import StopHandler
from distill.training.train import train


def run(file: str | Path, resume: Resume = False, **overrides: Any) -> Report | None:
    """Run the experiments of a YAML file: train, compress, export, measure.

    Args:
        file: a path; looked up as given, then in ``configs/``.
        resume: resume the run in its folder where it stopped; of several runs, skip those that are done. ``auto``:
            resume a run that has begun, begin one that has not, and skip one that is done.
        overrides: values by dotted key, as in ``run("tinybert.yaml", **{"losses.logits.weight": 0.5})``.

    Returns:
        The report of the last run; None on ranks other than 0, and if all runs were done already.

    Raises:
        ConfigError: if the input is wrong; its message is one line.
        Interrupted: on Ctrl-C or SIGTERM; during training the checkpoint is written first.
    """
    with StopHandler() as stop:
        reports = list(run_experiments(read_runs(file, overrides), resume, stop))
    return reports[-1] if reports else None


def run_experiments(configs: list[Config[Experiment]], resume: Resume, stop: StopHandler) -> Iterator[Report | None]:
    """Run the experiments of a file in order, and yield the report of each."""
    for number, (config, begun) in enumerate(remaining_runs(configs, resume)):
        if number:
            wait_for_rank_0()
            gc.collect()  # frees the models of the previous run, which its trainer holds in reference cycles
        yield run_experiment(config, begun, stop)


def run_experiment(config: Config[Experiment], resume: bool, stop: StopHandler) -> Report | None:
    """Run one experiment; return its report on rank 0, and None on other ranks."""
    started = time.time()
    prepared = prepare(config, resume)
    experiment, parts, plan = prepared.experiment, prepared.parts, prepared.plan
    with enter_run_dir(prepared):
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
        evaluation = evaluate(
            experiment.task, experiment.teacher, parts.teachers, deployed, teacher_batches, student_batches
        )
        report = write_report(prepared, trained, deployed, evaluation, student_batches.batches, started)
        remove_backups(prepared.folder)
    return report
