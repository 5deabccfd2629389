"""Build Lightning's Trainer, the timeline of the run and the callbacks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from distill.config.config import Config
from distill.experiment.compatibility import check_compatibility
from distill.experiment.components import Component, components, flags_of
from distill.experiment.experiment import Experiment
from distill.teachers.early_stop import TeacherEarlyStop
from distill.training.callbacks.checkpoints import BestCheckpoint, CheckpointFiles, LastCheckpoint
from distill.training.callbacks.curves import CurveLogger
from distill.training.callbacks.display.callback import ProgressDisplay
from distill.training.callbacks.finite import FiniteCheck
from distill.training.callbacks.replace import BlockReplacement
from distill.training.callbacks.validation import ValidationSteps
from distill.training.fsdp2 import FSDP2Strategy
from distill.training.launcher import check_launch, with_launched_devices
from distill.training.parts import Parts
from distill.training.stop import StopHandler
from distill.training.timeline import final_form_step
from prune_schedules.callback import Prune
from prune_schedules.schedule import START, STOP, Constant, Timeline
from prune_schedules.targets.shapes import Shape
from quant_aware.callback import QuantizeAware


def make_trainer(config: Config[Experiment], folder: Path) -> Trainer:
    """Return Lightning's Trainer from the config and the settings that every run has.

    Raises:
        ConfigError: if Lightning refuses an argument, or it cannot be combined with the rest of the run.
    """
    arguments = with_launched_devices(dict(config.value.trainer))
    with config.error_context("trainer"):
        try:
            strategy = arguments.get("strategy", "auto")
            if str(strategy).startswith(("deepspeed", "fsdp")) and strategy != "fsdp2":
                raise ValueError(f"strategy: {strategy!r} is not supported; for sharded models write fsdp2")
            trainer = _trainer(arguments, folder)
            # With several devices Lightning takes DDP also where no strategy is named. The only buffers that change are
            # masks, which every rank computes alike, so they need no broadcast.
            if strategy in ("auto", "ddp") and isinstance(trainer.strategy, DDPStrategy):
                find_unused = _has_unused_parameters(config.value)
                trainer.strategy._ddp_kwargs |= {"find_unused_parameters": find_unused, "broadcast_buffers": False}
        except (MisconfigurationException, RuntimeError, TypeError, ImportError) as error:
            raise ValueError(str(error)) from error
        check_launch(trainer)
        if isinstance(trainer.strategy, FSDP2Strategy) and str(trainer.precision) not in ("32-true", "bf16-mixed"):
            raise ValueError(f"precision: fsdp2 needs 32-true or bf16-mixed, not {trainer.precision}")
    check_compatibility(config, [*components(config.value), *trainer_components(trainer, config.value.task.batch_size)])
    return trainer


@dataclass(frozen=True)
class BatchPerProcess:
    """How the rows of a batch are split over processes.

    Args:
        rows: the global batch size.
        processes: the world size.
    """

    rows: int
    processes: int

    @property
    def has_too_few_rows(self) -> bool:
        """Return whether some process has a single row or none."""
        return self.processes > 1 and self.rows < self.least

    @property
    def least(self) -> int:
        """Return the smallest batch size that gives each process two rows."""
        return 2 * self.processes


def trainer_components(trainer: Trainer, rows: int) -> list[Component]:
    """Return the trainer as components with flags for the rules of ``compatibility``; ``rows`` is the batch size."""
    precision = str(trainer.precision)
    flags = flags_of(
        is_sharded=isinstance(trainer.strategy, FSDP2Strategy),
        computes_in_half=precision != "32-true" and "mixed" not in precision,
    )
    return [
        Component("trainer", name=precision, flags=flags),
        Component("task", BatchPerProcess(rows, trainer.world_size)),
    ]


def _trainer(arguments: dict[str, Any], folder: Path) -> Trainer:
    return Trainer(
        **arguments,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        plugins=[CheckpointFiles()],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def _has_unused_parameters(experiment: Experiment) -> bool:
    """Return whether parameters may lack a gradient at some step, for DDP.

    These are blocks that do not run, projections of a loss outside its window, and a head without a loss on logits.
    """
    losses = experiment.losses.values()
    if experiment.drop_when_matched():
        return True
    always = [loss for loss in losses if (loss.start, loss.stop) == (START, STOP) and isinstance(loss.weight, Constant)]
    if experiment.replace:
        return True
    return len(always) < len(losses) or not any(loss.student_signals.logits for loss in losses)


def make_timeline(config: Config[Experiment], trainer: Trainer, batches: int) -> Timeline:
    """Return the number of optimizer steps of the run and of an epoch.

    Raises:
        ConfigError: if the run would have no steps or no end.
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
    experiment: Experiment, folder: Path, timeline: Timeline, entries: list[dict], parts: Parts, stop: StopHandler
) -> list[Callback]:
    """Return the callbacks in their order.

    Curves come first, to log the state of the finished step. Pruning comes before quantization, the order in which
    they act on a weight. The check for finite numbers follows all callbacks that change weights, and precedes the
    online teacher that averages them. Checkpoints come last, so that they hold the state of all others.
    """
    final, task = final_form_step(experiment, timeline), experiment.task
    pruners, models = experiment.pruners(), [teacher.model for teacher in parts.teachers.values()]
    every = max(1, min(timeline.epoch_steps, timeline.total_steps // 10))
    # A validation may switch the teacher off, so more of them would change how such a run trains.
    keeps_validation = experiment.drop_when_matched() or (
        {"val_check_interval", "check_val_every_n_epoch"} & experiment.trainer.keys()
    )
    curves, metric = CurveLogger(), f"val/{task.main_metric}"
    return [
        curves,
        *([] if keeps_validation else [ValidationSteps(timeline)]),
        *([BlockReplacement(experiment.replace, models[0], experiment.seed)] if experiment.replace else []),
        *([Prune(pruners, earliest_cut_steps(experiment, timeline), experiment.seed)] if pruners else []),
        *([QuantizeAware(experiment.quantize)] if experiment.quantize else []),
        FiniteCheck(timeline.total_steps),
        *([parts.online_teacher] if isinstance(parts.online_teacher, Callback) else []),
        *([TeacherEarlyStop(parts.teachers["teacher"], task, final)] if experiment.drop_when_matched() else []),
        ProgressDisplay(experiment.display, experiment.name, entries, curves, metric),
        BestCheckpoint(folder / "checkpoints", metric, task.metric_mode, final),
        LastCheckpoint(folder / "checkpoints", every, timeline.total_steps, stop),
    ]


def earliest_cut_steps(experiment: Experiment, timeline: Timeline) -> dict[Shape, int]:
    """Return by shape the step from which masked units may be cut out of the student's tensors.

    Heads and layers stay while a loss looks at attention. Beside a moving average of the student, which follows it
    weight by weight, nothing is cut.
    """
    if any(component.has("averages_weights") for component in components(experiment)):
        return {}
    stops = [loss.stop.step(timeline) for loss in experiment.losses.values() if loss.uses_attention]
    last_stop = max(stops, default=0)
    return {"neurons": 0, "heads": last_stop, "layers": last_stop, "ranks": 0, "experts": 0}
