"""Train: one fit of Lightning's Trainer, and the best state of the student after it."""

from __future__ import annotations

from dataclasses import dataclass

from distill.experiment.experiment import Experiment
from distill.teachers.cache import CachedTeacher
from distill.teachers.early_stop import TeacherEarlyStop
from distill.training.callbacks.checkpoints import Best, Origin
from distill.training.prepare.prepare import Prepared
from distill.training.stop import Stop
from distill.training.trainer import make_callbacks, make_loggers


@dataclass
class Trained:
    """What training has left beside the student's best state, which the module holds."""

    notes: list[str]
    warnings: list[str]
    removed: dict[str, float]
    """By pruner the share of its units, or tiles of weights, that are gone."""
    skipped: list[str]
    """What pruning and quantization left out, with the reason."""


def train(prepared: Prepared, stop: Stop) -> Trained | None:
    """Train the student, and load its best state.

    Returns:
        None on ranks other than 0, which have no more to do.

    Raises:
        Interrupted: if ``stop`` was asked for; the checkpoint is written.
        NonFinite: at the first number that is not finite.
    """
    experiment, parts, trainer = prepared.experiment, prepared.parts, prepared.plan.trainer
    module, folder = prepared.module, prepared.folder
    callbacks = make_callbacks(experiment, folder, prepared.plan.timeline, parts, stop)
    trainer.callbacks.extend([*callbacks, Origin(prepared.origin)])
    trainer.loggers = make_loggers(experiment, folder, module, prepared.start.curve_rows)
    stop.take_over(trainer)
    trainer.fit(module, prepared.loader, prepared.validation, ckpt_path=prepared.start.checkpoint)
    if module.shards:
        module.shards.gather()
    notes = [*prepared.notes, *parts.notes]
    notes += [
        f"{name}: {cache.note()}" for name, cache in prepared.teachers.items() if isinstance(cache, CachedTeacher)
    ]
    notes += [callback.note() for callback in trainer.callbacks if isinstance(callback, TeacherEarlyStop)]
    if not trainer.is_global_zero:
        return None
    best = next(callback for callback in trainer.callbacks if isinstance(callback, Best))
    best.load_into(module)
    skipped = [getattr(callback, "skipped", {}) for callback in trainer.callbacks]
    return Trained(
        notes,
        best.warnings,
        removed_units(experiment),
        [f"{name}: {why}" for reasons in skipped for name, why in reasons.items()],
    )


def removed_units(experiment: Experiment) -> dict[str, float]:
    """Return by pruner the share of its units, or tiles of weights, that are gone after training, before folding."""
    shares = {}
    for name, pruner in experiment.pruners().items():
        counts = [target.count_masked() for target in pruner.targets]
        shares[name] = sum(gone for gone, _ in counts) / max(sum(total for _, total in counts), 1)
    return shares
