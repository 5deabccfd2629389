"""The student before the first step: whether it can be saved, loaded and pruned as the end of the run will have it."""

from __future__ import annotations

from copy import deepcopy

import torch

from distill.config.config import Config
from distill.experiment.experiment import Experiment
from distill.training.parts import Parts
from distill.training.prepare.checks.round_trip import cut_to_the_end, pruned_to_the_end, round_trip
from distill.training.prepare.first_batches import first_batches
from prune_schedules.schedule import Timeline
from students.weights import SPARSITY_THRESHOLD, model_sparsity

UNREACHED = 0.05
"""From this difference on between the sparsity that is wanted and the one that can be had the report tells of it."""


def check_student(config: Config[Experiment], parts: Parts, timeline: Timeline) -> list[str]:
    """Save, load and compare the student as it is and as pruning and a smaller vocabulary will leave it; what the
    report should say of the zeros that it has and will have.

    Raises:
        ConfigError: if it cannot be saved or loaded again, or a pruner cannot remove anything.
    """
    experiment, found, student = config.value, [], parts.student
    start = getattr(student.config, "decoder_start_token_id", None)
    order = first_batches(experiment.task, parts.rows["train"], parts.tokenizer, start, experiment.seed)
    batch, head = next(order), experiment.task.head
    with config.error_context("student"):
        round_trip(student, parts.tokenizer, batch, head)
        if experiment.save_dtype != "float32":
            round_trip(deepcopy(student).to(getattr(torch, experiment.save_dtype)), parts.tokenizer, batch, head)
    begun, pruners = model_sparsity(student), experiment.pruners()
    if begun >= SPARSITY_THRESHOLD and not pruners:
        found.append(f"{begun:.1%} of the student's weights are zero, and training fills them; prune: keep keeps them")
    if not (pruners or parts.vocabulary):
        return found
    smaller, shares = pruned_to_the_end(student, pruners, timeline)
    for name, (wanted, reached, among) in shares.items():
        key, shape = experiment.prune_key(name), pruners[name].shape
        what = shape if isinstance(shape, str) else "tiles"
        if wanted > 0 and reached == 0:
            why = f"of {among} that compete one at least stays; write {1 / among:.3g} or more, or leave it out"
            raise config.error(key, f"sparsity: {wanted:.3g} of the {what} removes none of them: {why}")
        if abs(wanted - reached) > UNREACHED:
            found.append(f"{key}: {wanted:.1%} of the {what} are to go, and {reached:.1%} can")
    with config.error_context("prune" if pruners else "vocabulary"):
        read = cut_to_the_end(smaller, batch, parts.vocabulary)
        round_trip(smaller, parts.vocabulary.tokenizer if parts.vocabulary else parts.tokenizer, read, head)
    return found
