"""A student whose linear layers, and embeddings, are two thin ones each, started by an SVD of the weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor, nn

from students.kinds.transformer import Transformer
from students.recording.reading import grams_before_training
from students.structure.factored import decompose, ranks, tie
from students.weights import Where, latent, select, uses

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class LowRank(Transformer):
    """A Transformer student whose layers [out, in] are two of them, [out, rank] and [rank, in].

    They start as the truncated singular value decomposition of the weights that the student would have had. In the
    blocks it is weighted by what layers read, so that their outputs are as near as with any factors of that rank (Chen
    et al. 2021; SVD-LLM, arXiv 2403.07378); elsewhere, and without ``batches``, the weights are (Sainath et al., ICASSP
    2013). A layer that two factors would not make smaller stays whole.

    Args:
        share: of each layer's numbers, those that may stay; half of them if nothing else is said.
        rank: the same rank for all layers, in place of ``share``.
        energy: in place of both: of each layer the lowest rank that keeps this share of the sum of its squares.
        batches: the batches of training whose inputs weight the decomposition; 0 is the plain one.
        where: which layers; with ``embeddings`` the tables of words and positions, too. Where one table is the head
            as well, both are meant by either of them: they keep one table, and have a thin layer each.
    """

    share: float | None = None
    rank: int | None = None
    energy: float | None = None
    batches: int = 16
    where: list[Where] = field(default_factory=lambda: ["attention", "ffn"])

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("share", "rank", "energy") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[1]}: {given[0]} says it already; name one of them")
        if not given:
            self.share = 0.5
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank: at least 1 is needed, not {self.rank}")
        if self.batches < 0:
            raise ValueError(f"batches: at least 0 is needed, not {self.batches}")
        for name in ("share", "energy"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: lies between 0 and 1, and is not {getattr(self, name)}")
        if not self.where or set(self.where) - set(get_args(Where)):
            raise ValueError(f"where: {self.where} is not a choice of {', '.join(get_args(Where))}")

    def alter(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]]) -> None:
        # Ranks are those of the weights alone: a run that goes on has them without the batches.
        found, whole = {}, []
        for name, modules in meant(student, self.where).items():
            weight = latent(modules[0])
            rank = self.rank_for(weight.detach())
            if rank * sum(weight.shape) < weight.numel():
                found[modules[0]] = (modules, rank)
            else:
                whole.append(name)
        if not found:
            key = next(key for key in ("rank", "energy", "share") if getattr(self, key) is not None)
            raise ValueError(f"{key}: {getattr(self, key)} makes no layer in {', '.join(self.where)} smaller")
        if whole:
            warnings.warn(f"stay whole, as two factors would be no smaller: {', '.join(whole)}", stacklevel=2)
        read = grams_before_training(student, list(found), islice(batches, self.batches))
        for first, (modules, rank) in found.items():
            decompose(modules, rank, read.get(first))
        from students.compact.models import become_compact  # not above: a config is read without transformers

        become_compact(student)
        student.config.ranks = ranks(student)
        tie(student)

    def rank_for(self, weight: Tensor) -> int:
        """The rank that a weight is to have."""
        if self.rank is not None:
            return self.rank
        if self.share is not None:
            return max(1, int(self.share * weight.numel() / sum(weight.shape)))
        kept = torch.linalg.svdvals(weight.double()).square().cumsum(0)
        return 1 + int((kept < self.energy * kept[-1]).sum())


def meant(model: PreTrainedModel, where: list[Where]) -> dict[str, list[nn.Module]]:
    """The linear layers and embeddings of ``where``, by name, with all modules that use the same weight."""
    chosen, skipped = select(model, where)
    names = {id(module): name for name, module in model.named_modules()}
    users = {key: [name.removesuffix(".weight") for name in same] for key, same in uses(model).items()}
    found = {}
    for name in (name for name in names.values() if name in chosen or name in skipped):
        same = users[id(latent(model.get_submodule(name)))]
        if name in chosen or len(same) > 1:
            found.setdefault(same[0], [model.get_submodule(other) for other in same])
    return found
