"""Train: fit with Lightning's Trainer, then load the best state of the student."""

from __future__ import annotations

from dataclasses import dataclass

from distill.experiment.experiment import Experiment
from distill.teachers.cache import CachedTeacher
from distill.teachers.early_stop import TeacherEarlyStop
from distill.training.callbacks.checkpoints import BestCheckpoint, CheckpointOrigin
from distill.training.callbacks.trackers.tracker import Tracker
from distill.training.prepare.prepare import PreparedRun
from distill.training.stop import StopHandler
from distill.training.trainer import make_callbacks


@dataclass
class TrainResult:
    """The result of training; the module holds the student's best state."""

    notes: list[str]
    warnings: list[str]
    removed: dict[str, float]
    """By pruner: the share of its units, or tiles of weights, that were removed."""
    skipped: list[str]
    """Weights and units that were not pruned or quantized, with the reason."""


def train(prepared: PreparedRun, stop: StopHandler) -> TrainResult | None:
    """Train the student, and load its best state.

    Returns:
        The result; None on ranks other than 0.

    Raises:
        Interrupted: after a signal; the checkpoint is written.
        NonFiniteError: at the first number that is not finite.
    """
    experiment, parts, trainer = prepared.experiment, prepared.parts, prepared.plan.trainer
    module, folder = prepared.module, prepared.folder
    plan = prepared.plan
    callbacks = make_callbacks(experiment, folder, plan.timeline, plan.entries, parts, stop)
    trainer.callbacks.extend([*callbacks, CheckpointOrigin(prepared.origin, prepared.start.clock)])
    stop.replace_lightning_handlers(trainer)
    trainer.fit(module, prepared.loader, prepared.validation, ckpt_path=prepared.start.checkpoint)
    if module.fsdp2:
        module.fsdp2.gather()
    notes = [*prepared.notes, *parts.notes]
    notes += [
        f"{name}: {cache.note()}" for name, cache in prepared.teachers.items() if isinstance(cache, CachedTeacher)
    ]
    notes += [callback.note() for callback in trainer.callbacks if isinstance(callback, TeacherEarlyStop)]
    notes += [logger.failure for logger in trainer.loggers if isinstance(logger, Tracker) and logger.failure]
    if not trainer.is_global_zero:
        return None
    best = next(callback for callback in trainer.callbacks if isinstance(callback, BestCheckpoint))
    best.load_into(module)
    skipped = [getattr(callback, "skipped", {}) for callback in trainer.callbacks]
    return TrainResult(
        notes,
        best.warnings,
        removed_units(experiment),
        [f"{name}: {reason}" for reasons in skipped for name, reason in reasons.items()],
    )


def removed_units(experiment: Experiment) -> dict[str, float]:
    """Return by pruner the share of its units, or tiles of weights, that are masked or cut after training."""
    shares = {}
    for name, pruner in experiment.pruners().items():
        counts = [target.count_masked() for target in pruner.targets]
        shares[name] = sum(masked for masked, _ in counts) / max(sum(total for _, total in counts), 1)
    return shares
