"""Lightning's Trainer and what hangs on it: how long it runs, the callbacks in their order, the loggers."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from distill.config.config import Config
from distill.config.writer import dump
from distill.experiment.compatibility import judge
from distill.experiment.components import Component, components, flags_of
from distill.experiment.experiment import Experiment
from distill.run_dir.files import write_text
from distill.teachers.early_stop import TeacherEarlyStop
from distill.training.callbacks.checkpoints import Best, CheckpointFiles, Last
from distill.training.callbacks.curves import Curves
from distill.training.callbacks.finite import Finite
from distill.training.callbacks.metrics_csv import MetricsCSV
from distill.training.callbacks.replace import Replace
from distill.training.fsdp2 import Sharded
from distill.training.launcher import as_launched, check_launched
from distill.training.module import Distillation
from distill.training.parts import Parts
from distill.training.stop import Stop
from distill.training.timeline import settled
from prune_schedules.callback import Prune
from prune_schedules.schedule import START, STOP, Constant, Timeline
from prune_schedules.targets.shapes import Shape
from quant_aware.callback import QuantizeAware


def make_trainer(config: Config[Experiment], folder: Path) -> Trainer:
    """Lightning's Trainer, with what the run sets itself."""
    given = as_launched(dict(config.value.trainer))
    with config.error_context("trainer"):
        try:
            if str(given.get("strategy")).startswith(("deepspeed", "fsdp")) and given["strategy"] != "fsdp2":
                raise ValueError(f"strategy: {given['strategy']!r} is not known here; for models in shards take fsdp2")
            trainer = _trainer(given, folder)
            # Of several devices Lightning makes DDP also where no strategy is named. The buffers that change are masks,
            # which every rank makes alike: none sends its own at each step.
            if given.get("strategy", "auto") in ("auto", "ddp") and isinstance(trainer.strategy, DDPStrategy):
                idle = _leaves_parameters_idle(config.value)
                trainer.strategy._ddp_kwargs |= {"find_unused_parameters": idle, "broadcast_buffers": False}
        except (MisconfigurationException, RuntimeError, TypeError, ImportError) as error:
            raise ValueError(str(error)) from error
        check_launched(trainer)
        if isinstance(trainer.strategy, Sharded) and str(trainer.precision) not in ("32-true", "bf16-mixed"):
            raise ValueError(f"precision: with fsdp2 32-true or bf16-mixed, not {trainer.precision}")
    judge(config, [*components(config.value), *trainer_components(trainer, config.value.task.batch_size)])
    return trainer


@dataclass(frozen=True)
class RowsOfProcesses:
    """How a batch is shared out."""

    rows: int
    processes: int

    @property
    def shares_out_rows(self) -> bool:
        """Whether a process has a single row of it."""
        return self.processes > 1 and self.rows < self.least

    @property
    def least(self) -> int:
        """The rows of which each process has two."""
        return 2 * self.processes


def trainer_components(trainer: Trainer, rows: int) -> list[Component]:
    """Return what ``distill.compatibility`` has to know of a trainer, by which batches of so many rows are shared."""
    precision = str(trainer.precision)
    flags = flags_of(
        is_sharded=isinstance(trainer.strategy, Sharded),
        computes_in_half=precision != "32-true" and "mixed" not in precision,
    )
    return [
        Component("trainer", name=precision, flags=flags),
        Component("task", RowsOfProcesses(rows, trainer.world_size)),
    ]


def _trainer(given: dict[str, Any], folder: Path) -> Trainer:
    return Trainer(
        **given,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        plugins=[CheckpointFiles()],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def _leaves_parameters_idle(experiment: Experiment) -> bool:
    """Blocks that do not run, projections of a loss outside its window, the head without a loss on logits: none of
    them has a gradient then.
    """
    losses = experiment.losses.values()
    if experiment.drop_when_matched():
        return True
    always = [loss for loss in losses if (loss.start, loss.stop) == (START, STOP) and isinstance(loss.weight, Constant)]
    if experiment.replace:
        return True
    return len(always) < len(losses) or not any(loss.student_signals.logits for loss in losses)


def time_of(config: Config[Experiment], trainer: Trainer, batches: int) -> Timeline:
    """How many optimizer steps the run has.

    Raises:
        ConfigError: if the run would never end, or never begin.
    """
    limit = trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    in_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    limits = (trainer.max_steps, 1), (trainer.max_epochs, in_epoch)
    ends = [limit * steps for limit, steps in limits if limit is not None and limit >= 0]
    if not ends or min(ends) < 1:
        raise config.error(
            "trainer",
            f"max_epochs: the run has no steps ({batches} batches, max_epochs {trainer.max_epochs}, max_steps "
            f"{trainer.max_steps})",
        )
    if (
        isinstance(trainer.val_check_interval, int)
        and trainer.check_val_every_n_epoch
        and trainer.val_check_interval > batches
    ):
        raise config.error(
            "trainer", f"val_check_interval: {trainer.val_check_interval} batches, but an epoch has only {batches}"
        )
    return Timeline(min(ends), in_epoch)


def make_callbacks(
    experiment: Experiment, folder: Path, timeline: Timeline, parts: Parts, stop: Stop
) -> list[Callback]:
    """Curves first, to tell the state of the step that was done; pruning before quantization, the order in which
    they act on a weight; then the look at whether all is finite, before the teacher that follows the student;
    checkpoints last, so that they hold it all.
    """
    final, task = settled(experiment, timeline), experiment.task
    pruners, models = experiment.pruners(), [teacher.model for teacher in parts.teachers.values()]
    every = max(1, min(timeline.epoch_steps, timeline.total_steps // 10))
    return [
        Curves(),
        *([Replace(experiment.replace, models[0], experiment.seed)] if experiment.replace else []),
        *([Prune(pruners, cuts(experiment, timeline), experiment.seed)] if pruners else []),
        *([QuantizeAware(experiment.quantize)] if experiment.quantize else []),
        Finite(timeline.total_steps),
        *([parts.companion] if isinstance(parts.companion, Callback) else []),
        *([TeacherEarlyStop(parts.teachers["teacher"], task, final)] if experiment.drop_when_matched() else []),
        Best(folder / "checkpoints", f"val/{task.main_metric}", task.metric_mode, final),
        Last(folder / "checkpoints", every, timeline.total_steps, stop),
    ]


def cuts(experiment: Experiment, timeline: Timeline) -> dict[Shape, int]:
    """The steps before which units must not leave the student's tensors, by their shape: heads and layers while a loss
    looks at attention. Its moving average follows the student weight by weight, so beside it all stay.
    """
    if any(component.has("averages_weights") for component in components(experiment)):
        return {}
    looks = [loss.stop.step(timeline) for loss in experiment.losses.values() if loss.uses_attention]
    unseen = max(looks, default=0)
    return {"neurons": 0, "heads": unseen, "layers": unseen, "ranks": 0}


def make_loggers(experiment: Experiment, folder: Path, module: Distillation, curve_rows: int) -> list[Logger]:
    """metrics.csv always, going on after so many rows; Weights & Biases and TensorBoard where they were asked for."""
    columns = [
        "progress",
        *(f"train/{name}{end}" for name in experiment.losses for end in ("", "_weight")),
        "lr",
        *["replace"] * bool(experiment.replace),
        *["sparsity"] * bool(experiment.prune),
        *["penalty"] * any(pruner.penalty != Constant(0.0) for pruner in experiment.pruners().values()),
        *["bits"] * bool(experiment.quantize),
        *(f"val/{name}" for name in module.metrics),
    ]
    table = MetricsCSV(folder / "metrics.csv", columns)
    table.start(curve_rows)
    loggers: list[Logger] = [table]
    if experiment.tracking.wandb:
        loggers.append(wandb_logger(experiment, folder))
    if experiment.tracking.tensorboard:
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    return loggers


def wandb_logger(experiment: Experiment, folder: Path) -> WandbLogger:
    """The run's own entry in the project, found again when it is resumed."""
    mark = folder / "wandb_id"
    if not mark.exists():
        write_text(mark, secrets.token_hex(4))
    return WandbLogger(
        name=experiment.name,
        save_dir=folder,
        project=experiment.tracking.wandb,
        id=mark.read_text(),
        resume="allow",
        config=dump(experiment),
    )
