"""A student's blocks take the place of the teacher's in training (BERT-of-Theseus, Xu et al. 2020, arXiv 2002.02925).

The teacher's groups stay where they are: no parameter of theirs is in the student's state dict, optimizer or buckets.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from prune_schedules.schedule import Schedule
from students.families.families import blocks, family, is_recurrent
from students.families.layer_lists import layer_lists
from students.families.layers import evenly_spaced_layer
from students.families.table import COMPACT


def groups(student: PreTrainedModel, teacher: PreTrainedModel) -> list[tuple[nn.Module, list[nn.Module]]]:
    """Each block of the student with the consecutive blocks of the teacher that it replaces.

    Raises:
        ValueError: if the one cannot stand where the others do.
    """
    own, other = student.config, teacher.config
    kinds = [config.model_type.removeprefix(COMPACT) for config in (own, other)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"blocks of a {kinds[0]} cannot stand in a {kinds[1]}")
    if is_recurrent(own):
        raise ValueError("layers of recurrent networks cannot stand in each other's place")
    if family(own).relative_position_bias:
        raise ValueError(f"the blocks of a {kinds[0]} share one position bias, so none can be replaced alone")
    for key in ("hidden_size", "head_dim", "rope_parameters"):
        ours, theirs = (getattr(config, key, None) for config in (own, other))
        if ours != theirs:
            raise ValueError(f"needs a student with the teacher's {key}, {theirs}, not {ours}")
    # Its model would make the mask for its own attention, which that of the teacher's blocks misreads.
    ours, theirs = (getattr(config, "attention", None) or {"kind": "full attention"} for config in (own, other))
    if ours != theirs:
        raise ValueError(f"needs a student with the teacher's attention, {theirs['kind']}, not {ours['kind']}")
    found = []
    for stack in family(own).stacks:
        mine, replaced = blocks(student, stack), blocks(teacher, stack)
        if len(set(mine)) < len(mine):
            raise ValueError(f"a block of a {kinds[0]} runs several times, so it cannot be replaced once")
        if len(mine) > len(replaced):
            raise ValueError(f"the student has {len(mine)} blocks, and the teacher only {len(replaced)}")
        ends = [evenly_spaced_layer(i, len(mine), len(replaced)) for i in range(len(mine) + 1)]
        _check_lists(own, other, stack, ends)
        found += [(block, replaced[a:b]) for block, (a, b) in zip(mine, pairwise(ends), strict=True)]
    return found


def _check_lists(own: PretrainedConfig, other: PretrainedConfig, stack: str, ends: list[int]) -> None:
    """Raise ValueError if the blocks of a group are of other kinds than that whose place they take and whose mask."""
    ours, theirs = layer_lists(own, stack), layer_lists(other, stack)
    for key in ours.keys() & theirs.keys():
        for number, (kind, (a, b)) in enumerate(zip(ours[key], pairwise(ends), strict=True), start=1):
            if any(each != kind for each in theirs[key][a:b]):
                raise ValueError(
                    f"block {number} of the student has {key} {kind}, the teacher's blocks {a + 1} to {b}, in whose "
                    f"place it would stand, {', '.join(map(str, theirs[key][a:b]))}"
                )


def drawn(count: int, probability: float, seed: int, step: int) -> list[bool]:
    """Which blocks of the student run at a step: each with this probability, the same on all ranks."""
    # A generator of its own, of a text: no other draw of this seed and step is the same.
    draw = random.Random(f"replace {seed} {step}")
    return [draw.random() < probability for _ in range(count)]


class Replace(Callback):
    """In training, each block of ``module.student`` runs with a probability, and the teacher's group in its place
    otherwise; in evaluation the student is alone.

    Args:
        probability: that a block of the student runs.
        teacher: the model whose blocks run otherwise, frozen and on the student's device.
        seed: of the draws, which are a function of it and the optimizer step.
    """

    def __init__(self, probability: Schedule, teacher: PreTrainedModel, seed: int = 0):
        self.probability, self.teacher, self.seed = probability, teacher, seed
        self.runs: list[bool] = []
        self.curves: dict[str, float] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Puts the choice before the blocks' own ``forward``."""
        self.attach(module.student)

    def attach(self, student: PreTrainedModel) -> None:
        """Puts the choice before the forward of the student's blocks; ``runs`` says which of them run."""
        pairs = groups(student, self.teacher)
        self.runs, self.blocks = [True] * len(pairs), [block for block, _ in pairs]
        for number, (block, group) in enumerate(pairs):
            # Not a hook: a hook cannot keep a forward from being run.
            block.forward = self._choosing(number, block, group)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: object, index: int) -> None:
        """Draws the blocks of the step: the same for all batches of an accumulation window."""
        probability = self.probability.value(trainer.global_step, module.timeline)
        self.runs = drawn(len(self.runs), probability, self.seed, trainer.global_step)
        self.curves = {"replace": probability}

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Leaves the student alone."""
        self.detach()

    def detach(self) -> None:
        """Gives the blocks their own forward back."""
        for block in self.blocks:
            block.__dict__.pop("forward", None)

    def _choosing(self, number: int, block: nn.Module, group: list[nn.Module]) -> Callable:
        own = block.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.runs[number] or not block.training:
                return own(*args, **kwargs)
            kwargs.pop("recording", None)  # what the recorder hands down: the attention of these is not the student's
            for part in group:
                output = part(*args, **kwargs)
                state = output[0] if isinstance(output, tuple) else output
                args, kwargs = ((state, *args[1:]), kwargs) if args else ((), kwargs | {"hidden_states": state})
            return output

        return forward
