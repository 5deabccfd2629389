"""Pair the layers of student and teacher: by a fixed rule, drawn for each epoch, or by their contents."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from losses.loss import Loss, LossValues, valid_tokens
from students.families.families import attention_layers, depth, find_stack, require
from students.families.layers import LayerRule, layer_pairs
from students.recording.batch import Batch
from students.recording.signals import Signals, Trace, check_signals

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Matching = Literal[LayerRule, "random", "nearest", "transport"]
Layers = Matching | dict[int, int]
"""The type of the field ``layers`` of a loss."""
StateLayers = Literal[Matching, "mixture"] | dict[int, int]
"""The same for a loss on single hidden states."""


class Pairing:
    """The pairs (student layer, teacher layer) of a loss, and their weights.

    Besides the rules of ``students.families.layers.layer_pairs``:

    - ``random`` pairs the student's inner blocks, in order, with as many of the teacher's, drawn for each epoch
      (RAIL-KD, Haidar et al. 2021, arXiv 2109.10164).
    - ``nearest`` pairs each of the teacher's evenly spaced blocks with the student's block of the least cost in this
      batch (CoFi, Xia et al. 2022, arXiv 2204.00408).
    - ``transport`` matches all blocks of both sides, equally weighted, by the transport plan of the least cost
      (BERT-EMD, Li et al. 2020, arXiv 2010.06133).
    - ``mixture`` compares each of the student's blocks with an attention-weighted sum of all of the teacher's (ALP-KD,
      Passban et al. 2020, arXiv 2012.14022).

    Args:
        layers: the rule, or the pairs.
        student: number of the student's blocks.
        teacher: number of the teacher's blocks.
        blocks_only: leave out layer 0, the input of the first block.

    Raises:
        ValueError: if the rule does not fit the depths.
    """

    def __init__(self, layers: StateLayers, student: int, teacher: int, blocks_only: bool = False):
        self.layers, self.student, self.teacher = layers, student, teacher
        self.names: tuple[list[int], list[int]] | None = None
        if layers == "random":
            if not 2 <= student <= teacher:
                raise ValueError(
                    f"layers: 'random' needs a student of at least 2 blocks and a teacher at least as deep "
                    f"(student {student} blocks, teacher {teacher} blocks)"
                )
            self.pairs = self._draw_pairs(0)
        elif layers == "nearest":
            targets = dict.fromkeys(t for _, t in layer_pairs("uniform", student, teacher, blocks_only=True))
            self.pairs = list(product(range(1, student + 1), targets))
        elif layers in ("transport", "mixture"):
            self.pairs = list(product(range(1, student + 1), range(1, teacher + 1)))
        else:
            self.pairs = layer_pairs(layers, student, teacher, blocks_only)

    def among(self, student_layers: list[int], teacher_layers: list[int]) -> Pairing:
        """Return the pairing of the layers of two hybrids; the pairs so far are of their places in these lists.

        Args:
            student_layers: those of the student that have what is compared.
            teacher_layers: those of the teacher.
        """
        pairing = copy(self)
        pairing.names = student_layers, teacher_layers
        pairing.pairs = [(student_layers[s - 1], teacher_layers[t - 1]) for s, t in self.pairs]
        return pairing

    def at(self, epoch: int) -> Pairing:
        """Return the pairing of an epoch; with ``random`` it depends on the number of the epoch alone."""
        if self.layers != "random":
            return self
        pairing = copy(self)
        pairing.pairs = self._draw_pairs(epoch)
        return pairing.among(*self.names) if self.names else pairing

    def _draw_pairs(self, epoch: int) -> list[tuple[int, int]]:
        return list(enumerate(sorted(random.Random(epoch).sample(range(1, self.teacher), self.student - 1)), 1))

    @property
    def student_layers(self) -> list[int]:
        """The student's layers in the pairs, each once."""
        return list(dict.fromkeys(s for s, _ in self.pairs))

    @property
    def teacher_layers(self) -> list[int]:
        """The teacher's layers in the pairs, each once."""
        return list(dict.fromkeys(t for _, t in self.pairs))

    @property
    def is_sequence(self) -> bool:
        """Whether there are at least two pairs, in the order of the layers."""
        return len(self.pairs) > 1 and self.layers not in ("nearest", "transport", "mixture")

    def total(self, cost: Callable[[int, int], Tensor]) -> Tensor:
        """Return the sum of the pairs' costs, weighted by the plan with ``nearest`` and ``transport``.

        Args:
            cost: the scalar cost of a pair (student layer, teacher layer).
        """
        costs = torch.stack([cost(s, t) for s, t in self.pairs])
        if self.layers not in ("nearest", "transport"):
            return costs.sum()
        matrix = costs.view(self.student, -1)
        plan = {"nearest": nearest, "transport": transport}[self.layers](matrix.detach())
        return (plan * matrix).sum()


def nearest(costs: Tensor) -> Tensor:
    """Return a plan for costs [S, T]: 1 for the least cost of each column, 0 for the others."""
    return torch.zeros_like(costs).scatter(0, costs.argmin(0, keepdim=True), 1.0)


def transport(costs: Tensor) -> Tensor:
    """Return the optimal transport plan for costs [S, T]: each row sums to 1, each column to S / T."""
    from scipy.optimize import linprog  # not above: few runs need it

    rows, columns = costs.shape
    sums = torch.cat([torch.eye(rows).repeat_interleave(columns, 1), torch.eye(columns).repeat(1, rows)]).numpy()
    marginals = [1.0] * rows + [rows / columns] * columns
    result = linprog(costs.detach().double().cpu().numpy().ravel(), A_eq=sums, b_eq=marginals, method="highs")
    if not result.success:
        raise FloatingPointError(f"no transport plan between layers was found: {result.message}")
    return torch.as_tensor(result.x, dtype=costs.dtype, device=costs.device).view(rows, columns)


@dataclass(kw_only=True, eq=False)
class LayerLoss(Loss):
    """The base class of losses on layers; the loss is the sum over the pairs of layers, as in the papers.

    Args:
        layers: the pairs of layers: a rule, or {student layer: teacher layer}. A rule for attention is over the layers
            that have it, if not all do.
        stack: ``encoder`` or ``decoder`` of an encoder-decoder, for attention also ``cross``; by default the model's
            first.
        teacher: the name of the teacher, if there are several.
    """

    signal: ClassVar[Literal["hidden", "attention", "routing"]]
    """The signal of each layer that is compared."""

    uses_layers: ClassVar[bool] = True

    layers: Layers = "uniform"
    stack: str | None = None
    teacher: str | None = None

    def __post_init__(self):
        super().__post_init__()
        self.pairing: Pairing | None = None

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the layers that are compared.

        Raises:
            ValueError: if there is no teacher, or a layer lies outside its model.
        """
        if teacher is None:
            raise ValueError("the loss compares with a teacher, and the run has none")
        cross = self.stack == "cross" and self.signal == "attention"
        stacks = [find_stack(config, "decoder" if cross else self.stack)[0] for config in (student, teacher)]
        depths = [depth(config, stack) for config, stack in zip((student, teacher), stacks, strict=True)]
        self.stacks = ("cross", "cross") if cross else tuple(stacks)
        self.pairing = Pairing(self.layers, *depths, blocks_only=self.signal != "hidden")
        if self.signal == "attention" and not isinstance(self.layers, dict):
            for config in (student, teacher):
                require(config, "attention")
            layers = [attention_layers(*pair) for pair in zip((student, teacher), self.stacks, strict=True)]
            self.pairing = Pairing(self.layers, *map(len, layers), blocks_only=True).among(*layers)
        self.student_signals, self.teacher_signals = self._signals(self.pairing)
        check_signals(student, self.student_signals)
        check_signals(teacher, self.teacher_signals)
        if self.teacher:
            self.stacks = self.stacks[0], f"{self.teacher}/{self.stacks[1]}"
            self.student_signals, self.teacher_signals = self._signals(self.pairing)

    @property
    def has_named_teacher(self) -> bool:
        """Whether it names one of several teachers."""
        return self.teacher is not None

    def valid(self, batch: Batch) -> Tensor:
        """Return where a token of the stack is not padding, bool [B, S]."""
        return valid_tokens(batch, self.stack)

    def teacher_valid(self, teacher: Trace, batch: Batch) -> Tensor:
        """Return where a token of the teacher's stack is not padding, bool [B, S]: it may read tokens of its own."""
        return teacher.valid.get(self.stacks[1], self.valid(batch))

    def signals_at(self, values: LossValues) -> tuple[Signals, Signals]:
        """Return the layers that are compared at a step; with ``random``, those of its epoch."""
        return self._signals(self.pairing.at(values.epoch))

    def _signals(self, pairing: Pairing) -> tuple[Signals, Signals]:
        student_stack, teacher_stack = self.stacks
        return (
            Signals(**{self.signal: frozenset((student_stack, layer) for layer in pairing.student_layers)}),
            Signals(**{self.signal: frozenset((teacher_stack, layer) for layer in pairing.teacher_layers)}),
        )
