"""Check the student before the first step: it can be saved, loaded, and pruned to its final form."""

from __future__ import annotations

from copy import deepcopy

import torch

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from distill.training.parts import Parts
from distill.training.prepare.checks.export_check import check_export
from distill.training.prepare.checks.round_trip import cut_fully, prune_fully, round_trip
from distill.training.prepare.first_batches import first_batches
from prune_schedules.schedule import Timeline
from students.structure.experts import experts
from students.weights import SPARSITY_THRESHOLD, model_sparsity

MAX_SPARSITY_GAP = 0.05
"""The largest difference of target and reachable sparsity without a warning."""


def check_student(config: Config[Experiment], parts: Parts, timeline: Timeline) -> list[str]:
    """Save, load and compare the student as built, and with the final sparsity and vocabulary.

    Returns:
        Warnings for the report about experts, about zeros that it has, and about a sparsity that cannot be reached.

    Raises:
        ConfigError: if it cannot be saved or loaded again, or a pruner cannot remove anything.
    """
    experiment, warnings, student = config.value, [], parts.student
    start = getattr(student.config, "decoder_start_token_id", None)
    order = first_batches(experiment.task, parts.rows["train"], parts.tokenizer, start, experiment.seed)
    batch, head = next(order), experiment.task.head
    with config.error_context("student"):
        round_trip(student, parts.tokenizer, batch, head)
        if experiment.save_dtype != "float32":
            round_trip(deepcopy(student).to(getattr(torch, experiment.save_dtype)), parts.tokenizer, batch, head)
    check_export(config, student, batch)
    has_routers = any(units.count > 1 for units in experts(student))
    if has_routers and not any(loss.balances_experts for loss in experiment.losses.values()):
        warnings.append("losses: no LoadBalancing, with which a mixture of experts is trained: experts may idle")
    sparsity, pruners = model_sparsity(student), experiment.pruners()
    if sparsity >= SPARSITY_THRESHOLD and not pruners:
        warnings.append(
            f"{sparsity:.1%} of the student's weights are zero, and training fills them; prune: fixed_mask keeps them"
        )
    if not (pruners or parts.vocabulary):
        return warnings
    smaller, sparsities = prune_fully(student, pruners, timeline)
    for name, (target, reachable, count) in sparsities.items():
        key, shape = experiment.prune_key(name), pruners[name].shape
        units = shape if isinstance(shape, str) else "tiles"
        if target > 0 and reachable == 0:
            advice = f"of {count} that compete one at least stays; write {1 / count:.3g} or more, or leave it out"
            raise config.error(key, f"sparsity: {target:.3g} of the {units} removes none of them: {advice}")
        if abs(target - reachable) > MAX_SPARSITY_GAP:
            warnings.append(f"{key}: {target:.1%} of the {units} are to be removed, and {reachable:.1%} can be")
    with config.error_context("prune" if pruners else "vocabulary"):
        batch = cut_fully(smaller, batch, parts.vocabulary)
        round_trip(smaller, parts.vocabulary.tokenizer if parts.vocabulary else parts.tokenizer, batch, head)
    return warnings
