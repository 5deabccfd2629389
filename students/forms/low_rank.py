"""Low-rank linear layers, initialized by a singular value decomposition of the weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from students.forms.form import Form
from students.recording.input_grams import collect_initial_grams
from students.structure.factored import decompose, get_ranks, rank_of, tie_factors
from students.structure.places import Where, select_modules
from students.weights import factor_modules, parameter_names, raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FactoredModules = Literal["attention", "ffn", "head"]


@dataclass(kw_only=True)
class RankRule:
    """The rule for the rank of each factored weight: one of the three, by default ``param_ratio: 0.5``.

    Args:
        param_ratio: maximum ratio of the parameters of the factors to those of the weight.
        rank: the same rank for all weights.
        energy: for each weight the lowest rank that keeps this ratio of its squared Frobenius norm.
    """

    param_ratio: float | None = None
    rank: int | None = None
    energy: float | None = None

    def __post_init__(self) -> None:
        rules = [name for name in ("param_ratio", "rank", "energy") if getattr(self, name) is not None]
        if len(rules) > 1:
            raise ValueError(f"{rules[1]}: {rules[0]} is set already; set one of them")
        if not rules:
            self.param_ratio = 0.5
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank: at least 1 is needed, not {self.rank}")
        for name in ("param_ratio", "energy"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: must lie between 0 and 1, not {getattr(self, name)}")

    def rank_for(self, weight: Tensor) -> int:
        """Return the rank for a weight."""
        if self.rank is not None:
            return self.rank
        if self.param_ratio is not None:
            return max(1, int(self.param_ratio * weight.numel() / sum(weight.shape)))
        energy = torch.linalg.svdvals(weight.double()).square().cumsum(0)
        return 1 + int((energy < self.energy * energy[-1]).sum())

    def factor(
        self, student: PreTrainedModel, where: Sequence[Where], batches: Iterable[dict[str, Tensor]] = ()
    ) -> None:
        """Factor the selected weights, in place, if that makes them smaller; warn of those that stay at full rank.

        Args:
            student: a compact model.
            where: as in ``students.weights.select_modules``.
            batches: their inputs weight the decomposition of layers in blocks; without them it is the plain one.

        Raises:
            ValueError: if no weight gets smaller.
        """
        # Ranks depend on the weights alone: a resumed run computes them without the batches.
        factored, full_rank = {}, []
        for name, modules in select_unfactored(student, where).items():
            weight = raw_parameter(modules[0])
            rank = self.rank_for(weight.detach())
            if rank * sum(weight.shape) < weight.numel():
                factored[modules[0]] = (modules, rank)
            else:
                full_rank.append(name)
        if not factored and not full_rank:
            warnings.warn(f"{', '.join(where)}: factored with the head by low_rank already", stacklevel=2)
            return
        if not factored:
            key = next(key for key in ("rank", "energy", "param_ratio") if getattr(self, key) is not None)
            raise ValueError(f"{key}: {getattr(self, key)} makes no layer in {', '.join(where)} smaller")
        if full_rank:
            warnings.warn(
                f"stay at full rank, as two factors would be no smaller: {', '.join(full_rank)}", stacklevel=2
            )
        gram_by_module = collect_initial_grams(student, list(factored), batches)
        for first, (modules, rank) in factored.items():
            decompose(modules, rank, gram_by_module.get(first))
        student.config.ranks = get_ranks(student)
        tie_factors(student)


@dataclass(kw_only=True)
class LowRank(RankRule, Form):
    """Linear layers [out, in] as two low-rank ones, [out, rank] and [rank, in].

    They are initialized as the truncated singular value decomposition of the student's weights. In the blocks it is
    weighted by the inputs of the layers, which keeps their outputs nearest for that rank (Chen et al. 2021; SVD-LLM,
    arXiv 2403.07378); elsewhere, and without ``batches``, it is the plain one (Sainath et al., ICASSP 2013). A layer
    that would not get smaller stays at full rank. Layers that blocks share are factored once.

    Args:
        batches: number of training batches whose inputs weight the decomposition; 0 is the plain one.
        where: the layers. A head that is tied to the token embeddings includes them: they share the larger factor, and
            have a smaller one each.
    """

    key = "ranks"

    batches: int = 16
    where: list[FactoredModules] = field(default_factory=lambda: ["attention", "ffn"])

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batches < 0:
            raise ValueError(f"batches: at least 0 is needed, not {self.batches}")
        if not self.where or set(self.where) - set(get_args(FactoredModules)):
            raise ValueError(f"where: {self.where} is not a choice of {', '.join(get_args(FactoredModules))}")

    def apply(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]], is_trained: bool) -> None:
        self.factor(student, self.where, islice(batches, self.batches))


def select_unfactored(model: PreTrainedModel, where: Sequence[Where]) -> dict[str, list[nn.Module]]:
    """Return the linear layers and embeddings of ``where`` that are not low-rank, each with all modules that use the
    same weight, by name.
    """
    chosen, skipped = select_modules(model, where)
    names = {module: name for name, module in model.named_modules()}
    factored = {part for module in names if rank_of(module) is not None for part in factor_modules(module)}
    users = {key: [name.removesuffix(".weight") for name in names] for key, names in parameter_names(model).items()}
    selected: dict[str, list[nn.Module]] = {}
    for module, name in names.items():
        if (name in chosen or name in skipped) and module not in factored:
            tied = users[id(raw_parameter(module))]
            if name in chosen or len(tied) > 1:
                selected.setdefault(tied[0], [model.get_submodule(other) for other in tied])
    return selected
