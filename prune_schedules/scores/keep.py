"""Training on a sparse model: what is zero at the start stays zero (sparse transfer)."""

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
from students.weights import SPARSITY_THRESHOLD, Where, out_axis, parameter_names, raw_parameter, select_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FEWEST = 0.001
"""Fewer zeros than this are no pattern to keep: the row of a padding token."""


def filled(before: tuple[int, int], after: tuple[int, int]) -> list[str]:
    """A warning, if a sparse student has lost its zeros, with both shares of the entries that it began with; what was
    cut out is zero. Of both it gives ``nonzeros``.
    """
    begun, ended = (1 - there / max(before[1], 1) for there, _ in (before, after))
    if begun < SPARSITY_THRESHOLD or ended > begun - SPARSITY_THRESHOLD / 2:
        return []
    return [f"the student began with {begun:.1%} of its weights zero and ends with {ended:.1%}: prune: keep keeps them"]


@dataclass(kw_only=True)
class Keep(Pruner):
    """Removes nothing more, and keeps at zero the weights that are zero where training begins (Zafrir et al. 2021,
    arXiv 2111.05754); ``prune: keep`` is short for it.

    Whatever their pattern is, as 2:4, it stays. Beside other pruners these remove more.
    """

    sparsity: Schedule = Constant(0.0)
    """Leave it out: it is that of the student."""
    shape: Shape | list[int] = "elements"
    """Leave it out."""
    where: list[Where] | None = None
    """Which weights; by default all matrices, tables of words and heads as well."""
    scope: Scope | None = None
    """Leave it out: nothing competes."""

    def __post_init__(self):
        for name, allowed in (("shape", ("elements",)), ("scope", (None, "layer"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: Keep removes nothing more; leave it out")
        for name in ("sparsity", "penalty", "drop"):
            if getattr(self, name) != Constant(0.0):
                raise ValueError(f"{name}: Keep removes nothing more; leave it out")
        if self.where is None:
            self.where = ["attention", "ffn", "recurrence", "embeddings", "head"]
        super().__post_init__()

    def find(self, model: PreTrainedModel) -> list[nn.Module]:
        """The modules with zeros in their weight; of a tied one all that use it.

        Raises:
            ValueError: if the model is not sparse.
        """
        chosen, skipped = select_modules(model, self.where)
        names, users = dict(model.named_modules()), parameter_names(model)
        tied = {id(raw_parameter(names[name])) for name in skipped if len(users[id(raw_parameter(names[name]))]) > 1}
        self.skipped = {name: why for name, why in skipped.items() if id(raw_parameter(names[name])) not in tied}
        meant = {
            name: module
            for name, module in names.items()
            if name in chosen
            or ((is_linear(module) or isinstance(module, nn.Embedding)) and id(raw_parameter(module)) in tied)
        }
        self.zero = {
            module: entries
            for module in meant.values()
            if (entries := _zero(module, is_tied=id(raw_parameter(module)) in tied)).any()
        }
        self.weights = {name: module for name, module in meant.items() if module in self.zero}
        total = sum(weight.numel() for weight in _once([*meant.values()]).values())
        share = sum(int(self.zero[module].sum()) for module in _once(self.weights.values())) / max(total, 1)
        if share < FEWEST:
            where = ", ".join(self.where)
            raise ValueError(f"keep: the student is not sparse: {share:.2%} of its weights in {where} are zero")
        return [*self.weights.values()]

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Put masks on what is zero, for good."""
        super().attach(model, seed)
        self.sizes = {module: weight.numel() for module, weight in _once(self.weights.values()).items()}
        for part in self.parts:
            part.keep((~self.zero.pop(part.module)).movedim(out_axis(part.module), 0))

    def final_mask_step(self, timeline: Timeline) -> int:
        """From the first step on."""
        return 0

    def due(self, step: int, timeline: Timeline) -> bool:
        """Never: no mask moves."""
        return False

    def renew(self, share: float) -> None:
        """Nothing is removed."""


def _once(modules: Iterable[nn.Module]) -> dict[nn.Module, nn.Parameter]:
    """The modules with their weight, of a tied one the first."""
    first: dict[int, nn.Module] = {}
    for module in modules:
        first.setdefault(id(raw_parameter(module)), module)
    return {module: raw_parameter(module) for module in first.values()}


@torch.no_grad()
def _zero(module: nn.Module, is_tied: bool) -> Tensor:
    """Which entries of a weight are zero; the padding's row of a table, which is not trained, has none."""
    found = raw_parameter(module) == 0
    if isinstance(module, nn.Embedding) and module.padding_idx is not None and not is_tied:
        found[module.padding_idx] = False
    return found
