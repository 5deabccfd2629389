"""Training of a sparse model with a fixed mask: weights that are zero at the start stay zero (sparse transfer)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prune_schedules.ranking import Scope
from prune_schedules.schedule import Constant, Schedule, Timeline
from prune_schedules.scores.pruner import Pruner
from prune_schedules.targets.shapes import Shape
from students.families.linear import is_linear
from students.structure.places import Where, select_modules
from students.weights import SPARSITY_THRESHOLD, out_axis, parameter_names, raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_SPARSITY = 0.001
"""Below this sparsity there is no pattern to keep: the row of a padding token."""


def lost_zeros_warning(before: tuple[int, int], after: tuple[int, int]) -> list[str]:
    """Return a warning if a sparse student has lost its zeros; weights that were cut out count as zeros.

    Args:
        before: the nonzero entries and all entries before training, by ``nonzeros``.
        after: the same after training.
    """
    initial, final = (1 - nonzero / max(before[1], 1) for nonzero, _ in (before, after))
    if initial < SPARSITY_THRESHOLD or final > initial - SPARSITY_THRESHOLD / 2:
        return []
    return [
        f"the sparsity of the student was {initial:.1%} before training and is {final:.1%} after it; "
        "`prune: fixed_mask` keeps its zeros"
    ]


@dataclass(kw_only=True)
class FixedMask(Pruner):
    """Keeps the weights at zero that are zero before training, and removes nothing else (sparse transfer: Zafrir et
    al. 2021, arXiv 2111.05754); ``prune: fixed_mask`` is short for it.

    Any sparsity pattern, as 2:4, is kept. Other pruners beside it remove more.
    """

    sparsity: Schedule = Constant(0.0)
    """Leave it out: it is that of the student."""
    shape: Shape | list[int] = "elements"
    """Leave it out."""
    where: list[Where] | None = None
    """Which weights; by default all matrices, embeddings and heads included."""
    scope: Scope | None = None
    """Leave it out: nothing competes."""

    def __post_init__(self):
        for name, allowed in (("shape", ("elements",)), ("scope", (None, "layer"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: FixedMask removes nothing; leave it out")
        for name in ("sparsity", "penalty", "dropout"):
            if getattr(self, name) != Constant(0.0):
                raise ValueError(f"{name}: FixedMask removes nothing; leave it out")
        if self.where is None:
            self.where = ["attention", "ffn", "recurrence", "embeddings", "head"]
        super().__post_init__()

    def find(self, model: PreTrainedModel) -> list[nn.Module]:
        """Return the modules with zeros in their weight; of a tied weight all that use it.

        Raises:
            ValueError: if the model is not sparse.
        """
        selected, skipped = select_modules(model, self.where)
        modules, users = dict(model.named_modules()), parameter_names(model)

        def parameter_id(name: str) -> int:
            return id(raw_parameter(modules[name]))

        tied = {parameter_id(name) for name in skipped if len(users[parameter_id(name)]) > 1}
        self.skipped = {name: reason for name, reason in skipped.items() if parameter_id(name) not in tied}
        candidates = {
            name: module
            for name, module in modules.items()
            if name in selected
            or ((is_linear(module) or isinstance(module, nn.Embedding)) and parameter_id(name) in tied)
        }
        self.zeros = {
            module: entries
            for name, module in candidates.items()
            if (entries := _zeros(module, is_tied=parameter_id(name) in tied)).any()
        }
        self.weights = {name: module for name, module in candidates.items() if module in self.zeros}
        total = sum(weight.numel() for weight in _unique_weights([*candidates.values()]).values())
        zeros = sum(int(self.zeros[module].sum()) for module in _unique_weights(self.weights.values()))
        if (sparsity := zeros / max(total, 1)) < MIN_SPARSITY:
            weights = f"{sparsity:.2%} of its weights in {', '.join(self.where)}"
            raise ValueError(f"fixed_mask: the student is not sparse: {weights} are zero")
        return [*self.weights.values()]

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Add fixed masks on all zeros."""
        super().attach(model, seed)
        self.sizes = {module: weight.numel() for module, weight in _unique_weights(self.weights.values()).items()}
        for target in self.targets:
            target.keep((~self.zeros.pop(target.module)).movedim(out_axis(target.module), 0))

    def final_mask_step(self, timeline: Timeline) -> int:
        """Return 0."""
        return 0

    def is_due(self, step: int, timeline: Timeline) -> bool:
        """Return False: the masks never change."""
        return False

    def update_masks(self, sparsity: float) -> None:
        """Do nothing."""


def _unique_weights(modules: Iterable[nn.Module]) -> dict[nn.Module, nn.Parameter]:
    """Return the modules with their weight; of a tied weight only the first."""
    first: dict[int, nn.Module] = {}
    for module in modules:
        first.setdefault(id(raw_parameter(module)), module)
    return {module: raw_parameter(module) for module in first.values()}


@torch.no_grad()
def _zeros(module: nn.Module, is_tied: bool) -> Tensor:
    """Return which entries of a weight are zero, without the untrained padding row of an embedding."""
    zeros = raw_parameter(module) == 0
    if isinstance(module, nn.Embedding) and module.padding_idx is not None and not is_tied:
        zeros[module.padding_idx] = False
    return zeros
