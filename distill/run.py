"""A run, from its config to its report."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning
from datasets import DatasetDict
from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase

from distill.batches import LengthGrouped, Loader
from distill.checkpoints import Best, Last
from distill.config import Config, load, to_yaml
from distill.curves import Curves
from distill.data import prepare
from distill.deploy import deploy
from distill.experiment import Experiment
from distill.finish import details, latency_samples, measure
from distill.folder import claim
from distill.hub import loading
from distill.metrics_csv import MetricsCSV
from distill.module import Distillation
from distill.publish import doubts, publish, wandb_logger
from distill.report import Report, command_line
from distill.schema import spelling
from distill.speed import fast_float32
from distill.teacher import FrozenTeacher
from distill.timeline import entries, settled, table
from prune_schedules import Prune
from prune_schedules.schedule import Timeline
from quant_aware.quantize import QuantizeAware
from students.student import resolve


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
    order = LengthGrouped(parts.rows["train"]["length"], experiment.task.batch_size, experiment.seed, trainer.world_size, trainer.global_rank)
    timeline = time_of(config, trainer, len(order))
    what = entries(config, timeline)
    module = Distillation(parts.student, parts.teacher, experiment.losses, experiment.task, experiment.optimizer, timeline, experiment.seed)
    collate = DataCollatorWithPadding(parts.tokenizer)
    rows = parts.rows.remove_columns("length")
    loader = Loader(rows["train"], order, collate, trainer.accumulate_grad_batches, module.count)
    validation = DataLoader(rows["validation"], 2 * experiment.task.batch_size, collate_fn=collate,
                            sampler=range(trainer.global_rank, len(rows["validation"]), trainer.world_size))

    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(resolved)
        print(table(what, timeline))
    trainer.callbacks.extend(make_callbacks(experiment, folder, timeline))
    trainer.loggers = make_loggers(experiment, folder, module, at_step)
    trainer.fit(module, loader, validation, ckpt_path=checkpoint)
    if not trainer.is_global_zero:
        return None

    batches = list(DataLoader(rows["validation"], 2 * experiment.task.batch_size, collate_fn=collate))
    deployed = deploy(experiment, module, folder, parts.tokenizer, batches)
    models, exports, logits = measure(experiment.task, parts.teacher, deployed, folder, batches, latency_samples(rows["validation"], collate))
    report = Report(
        name=experiment.name, task=spelling(type(experiment.task)), main_metric=experiment.task.main_metric,
        started=datetime.fromtimestamp(began).isoformat(timespec="seconds"), seconds=round(time.time() - began, 1),
        command=command_line(), seed=experiment.seed, models=models, timeline=what, exports=exports, parity=deployed.parity,
        warnings=[*parts.warnings, *doubts(models, exports, deployed)], notes=notes, folder=folder,
    )
    skipped = [f"{name}: {why}" for callback in trainer.callbacks for name, why in getattr(callback, "skipped", {}).items()]
    publish(report, details(experiment.task, parts.tables["validation"], parts.texts, parts.labels, logits, deployed, skipped), trainer.loggers)
    return report


@dataclass
class Parts:
    """What a run is made of."""

    tokenizer: PreTrainedTokenizerBase
    tables: DatasetDict
    rows: DatasetDict
    texts: list[str]
    labels: list[str]
    teacher: FrozenTeacher | None
    student: PreTrainedModel
    warnings: list[str]


def assemble(config: Config[Experiment]) -> Parts:
    """Loads and builds everything, and sets the losses up; what can be checked cheaply is checked first."""
    experiment, teacher_config = config.value, None
    if experiment.teacher:
        with config.blame("teacher"), loading(resolve(experiment.teacher.model)):
            teacher_config = experiment.teacher.config()
    with config.blame("student"):
        experiment.student.check(teacher_config)
    named = getattr(experiment.student, "model", None) or experiment.teacher.model
    with config.blame("student" if getattr(experiment.student, "model", None) else "teacher"), loading(resolve(named)):
        tokenizer = AutoTokenizer.from_pretrained(resolve(named))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    with config.blame("teacher"):
        _same_tokens(tokenizer, experiment, named)
    with config.blame("task"):
        tables, rows, texts, labels = prepare(experiment.task, tokenizer, teacher_config.id2label if teacher_config else None)
    teacher = None
    if experiment.teacher:
        with config.blame("teacher"), loading(resolve(experiment.teacher.model)):
            if teacher_config.num_labels != len(labels):
                raise ValueError(f"model: the teacher has {teacher_config.num_labels} outputs, the data {len(labels)} ({', '.join(labels)})")
            teacher = FrozenTeacher(experiment.teacher.load())
    with config.blame("student"), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        student = experiment.student.build(teacher.model if teacher else None, dict(enumerate(labels)), experiment.task.problem)
    for model in (student, teacher.model if teacher else student):
        model.config.pad_token_id = tokenizer.pad_token_id
    for name, loss in experiment.losses.items():
        with config.blame(f"losses.{name}"):
            loss.setup(student.config, teacher.model.config if teacher else None)
    return Parts(tokenizer, tables, rows, texts, labels, teacher, student, [str(w.message) for w in warned if w.category is UserWarning])


def _same_tokens(tokenizer: PreTrainedTokenizerBase, experiment: Experiment, named: str) -> None:
    if experiment.teacher and experiment.teacher.model != named:
        with loading(resolve(experiment.teacher.model)):
            other = AutoTokenizer.from_pretrained(resolve(experiment.teacher.model))
        if other.get_vocab() != tokenizer.get_vocab():
            raise ValueError(f"model: {experiment.teacher.model} and {named} have different vocabularies; a teacher and a student read the same tokens")


def make_trainer(config: Config[Experiment], folder: Path) -> Trainer:
    """Lightning's Trainer, with what the run sets itself."""
    given = dict(config.value.trainer)
    if given.get("strategy") == "ddp":
        # Outside their windows, losses leave their projections (and a head that only logits train) without a gradient.
        given["strategy"] = "ddp_find_unused_parameters_true"
    with config.blame("trainer"):
        try:
            return Trainer(**given, logger=False, enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0,
                           use_distributed_sampler=False, default_root_dir=folder)
        except (MisconfigurationException, RuntimeError) as error:
            raise ValueError(str(error)) from error


def time_of(config: Config[Experiment], trainer: Trainer, batches: int) -> Timeline:
    """How many optimizer steps the run has.

    Raises:
        ConfigError: if the run would never end, or never begin.
    """
    limit = trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    in_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    ends = [trainer.max_steps] * (trainer.max_steps > 0) + [trainer.max_epochs * in_epoch] * ((trainer.max_epochs or -1) > 0)
    if not ends or min(ends) < 1:
        raise config.error("trainer", f"max_epochs: the run has no steps ({batches} batches, max_epochs {trainer.max_epochs}, max_steps {trainer.max_steps})")
    return Timeline(min(ends), in_epoch)


def make_callbacks(experiment: Experiment, folder: Path, timeline: Timeline) -> list[Callback]:
    """Curves first, to tell the state of the step that was done; pruning before quantization, the order in which they act on a weight;
    checkpoints last, so that they hold it all."""
    pruners = experiment.pruners()
    every = max(1, min(timeline.epoch_steps, timeline.total_steps // 10))
    return [
        Curves(),
        *([Prune(pruners)] if pruners else []),
        *([QuantizeAware(experiment.quantize)] if experiment.quantize else []),
        Best(folder / "checkpoints", f"val/{experiment.task.main_metric}", settled(experiment, timeline)),
        Last(folder / "checkpoints", every, timeline.total_steps),
    ]


def make_loggers(experiment: Experiment, folder: Path, module: Distillation, at_step: int) -> list[Logger]:
    """metrics.csv always; Weights & Biases and TensorBoard where they were asked for."""
    columns = ["progress", *(f"train/{name}{end}" for name in experiment.losses for end in ("", "_weight")), "lr",
               *["sparsity"] * bool(experiment.prune), *["bits"] * bool(experiment.quantize), *(f"val/{name}" for name in module.metrics)]
    table = MetricsCSV(folder / "metrics.csv", columns)
    table.start(at_step)
    loggers: list[Logger] = [table]
    if experiment.tracking.wandb:
        loggers.append(wandb_logger(experiment, folder))
    if experiment.tracking.tensorboard:
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    return loggers
