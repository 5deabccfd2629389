"""Block replacement: student blocks gradually replace the teacher's (BERT-of-Theseus, Xu et al. 2020, 2002.02925).

The teacher's blocks stay in the teacher: none of their parameters is in the student's state dict, optimizer or buckets.
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
from students.families.families import blocks, family, own_kind
from students.families.layer_lists import layer_lists
from students.families.layers import evenly_spaced_layer
from students.families.table import COMPACT


def block_groups(student: PreTrainedModel, teacher: PreTrainedModel) -> list[tuple[nn.Module, list[nn.Module]]]:
    """Return each block of the student with the consecutive blocks of the teacher that it replaces.

    Raises:
        ValueError: if blocks of the two models cannot be exchanged.
    """
    configs = student.config, teacher.config
    kinds = [config.model_type.removeprefix(COMPACT) for config in configs]
    if kinds[0] != kinds[1]:
        raise ValueError(f"blocks of a {kinds[0]} cannot replace those of a {kinds[1]}")
    if own := own_kind(student.config):
        raise ValueError(f"the layers of a {own} cannot replace one another")
    if family(student.config).has_fixed_heads:
        raise ValueError(f"the blocks of a {kinds[0]} share a position bias or the like, so none can be replaced")
    for key in ("hidden_size", "head_dim", "rope_parameters"):
        student_value, teacher_value = (getattr(config, key, None) for config in configs)
        if student_value != teacher_value:
            raise ValueError(f"needs a student with the teacher's {key}, {teacher_value}, not {student_value}")
    # The student's model makes the mask for its own attention; the teacher's blocks would misread it.
    kind, teacher_kind = (getattr(config, "attention", None) or {"kind": "full attention"} for config in configs)
    if kind != teacher_kind:
        raise ValueError(f"needs a student with the teacher's attention, {teacher_kind['kind']}, not {kind['kind']}")
    groups = []
    for stack in family(student.config).stacks:
        student_blocks, teacher_blocks = blocks(student, stack), blocks(teacher, stack)
        count = len(student_blocks)
        if len(set(student_blocks)) < count:
            raise ValueError(f"a block of a {kinds[0]} runs several times, so it cannot be replaced once")
        if count > len(teacher_blocks):
            raise ValueError(f"the student has {count} blocks, and the teacher only {len(teacher_blocks)}")
        edges = [evenly_spaced_layer(i, count, len(teacher_blocks)) for i in range(count + 1)]
        _check_lists(*configs, stack, edges)
        ranges = pairwise(edges)
        groups += [(block, teacher_blocks[a:b]) for block, (a, b) in zip(student_blocks, ranges, strict=True)]
    return groups


def _check_lists(student: PretrainedConfig, teacher: PretrainedConfig, stack: str, edges: list[int]) -> None:
    """Raise ValueError if a block differs in a per-layer list (``layer_types``) from the teacher blocks it replaces."""
    student_lists, teacher_lists = layer_lists(student, stack), layer_lists(teacher, stack)
    for key in student_lists.keys() & teacher_lists.keys():
        pairs = zip(student_lists[key], pairwise(edges), strict=True)
        for number, (kind, (a, b)) in enumerate(pairs, start=1):
            teacher_kinds = teacher_lists[key][a:b]
            if any(teacher_kind != kind for teacher_kind in teacher_kinds):
                raise ValueError(
                    f"block {number} of the student has {key} {kind}, the teacher's blocks {a + 1} to {b} that it "
                    f"replaces have {', '.join(map(str, teacher_kinds))}"
                )


def draw_blocks(count: int, probability: float, seed: int, step: int) -> list[bool]:
    """Return which blocks of the student run at a step: each with this probability, the same on all ranks."""
    # Seeded by a text, so that no other generator of this seed and step draws the same numbers.
    generator = random.Random(f"replace {seed} {step}")
    return [generator.random() < probability for _ in range(count)]


class BlockReplacement(Callback):
    """Runs, in training, each block of the student with a probability, else the teacher's blocks that it replaces.

    In evaluation the student runs alone.

    Args:
        probability: the probability that a block of the student runs.
        teacher: the frozen model with the other blocks, on the student's device.
        seed: with the optimizer step, the seed of the draws.
    """

    def __init__(self, probability: Schedule, teacher: PreTrainedModel, seed: int = 0):
        self.probability, self.teacher, self.seed = probability, teacher, seed
        self.runs: list[bool] = []
        self.curves: dict[str, float] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Attach to the student."""
        self.attach(module.student)

    def attach(self, student: PreTrainedModel) -> None:
        """Replace the ``forward`` of the student's blocks by one that chooses, as ``runs`` says, between the two."""
        groups = block_groups(student, self.teacher)
        self.runs, self.blocks = [True] * len(groups), [block for block, _ in groups]
        for number, (block, teacher_blocks) in enumerate(groups):
            # Not a hook, which cannot prevent the forward from running.
            block.forward = self._replaced_forward(number, block, teacher_blocks)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: object, index: int) -> None:
        """Draw the blocks of the step, the same for all batches of an accumulation window."""
        probability = self.probability.value(trainer.global_step, module.timeline)
        self.runs = draw_blocks(len(self.runs), probability, self.seed, trainer.global_step)
        self.curves = {"replace": probability}

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Detach from the student."""
        self.detach()

    def detach(self) -> None:
        """Restore the ``forward`` of the blocks."""
        for block in self.blocks:
            block.__dict__.pop("forward", None)

    def _replaced_forward(self, number: int, block: nn.Module, teacher_blocks: list[nn.Module]) -> Callable:
        student_forward = block.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.runs[number] or not block.training:
                return student_forward(*args, **kwargs)
            kwargs.pop("recording", None)  # the teacher's attention is not to be recorded as the student's
            for teacher_block in teacher_blocks:
                output = teacher_block(*args, **kwargs)
                state = output[0] if isinstance(output, tuple | list) else output
                args, kwargs = ((state, *args[1:]), kwargs) if args else ((), kwargs | {"hidden_states": state})
            return output

        return forward
