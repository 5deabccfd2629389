"""Pruning of experts by the tokens that their router sends them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from prune_schedules.scores.inputs import ActivationScored
from prune_schedules.scores.pruner import ScoredPruner
from prune_schedules.targets.routers import kept_experts
from prune_schedules.targets.shapes import Shape
from students.structure.experts import routed_weights


@dataclass(kw_only=True)
class Routing(ActivationScored, ScoredPruner):
    """Removes the experts to which routers send the fewest tokens.

    The score of an expert is the sum of the weights with which its outputs are added, over all tokens that are not
    padding; with ``weighted: false`` their number (the heavy-hitters count of Muzio, Sun and He 2024, SEER-MoE, arXiv
    2404.05089). A masked expert gets no token, and so never comes back.
    """

    shape: Shape | list[int] = "experts"
    """What is removed: ``experts``."""
    weighted: bool = True
    """Whether a token counts by the weight that the router gives the expert, and not as one."""

    reads_routers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape != "experts":
            raise ValueError(f"shape: Routing ranks experts, not {self.shape}; leave it out")

    def collect(self, inputs: Tensor) -> Tensor:
        """Not used: the inputs of experts are not counted, but their tokens."""
        raise NotImplementedError

    def _collector(self, valid: Tensor) -> Callable[[nn.Module, tuple, dict], None]:
        def hook(experts: nn.Module, args: tuple, kwargs: dict) -> None:
            if not experts.training:  # a validation between two batches of one step
                return
            (count,) = (target.units.count for target in self.targets if target.reader is experts)
            statistics = routed_weights(args, kwargs, valid, count, self.weighted)
            self._pending[experts] = self._pending.get(experts, 0.0) + statistics

        return hook

    def scores(self) -> list[Tensor]:
        """Return the sums of weights, or the numbers of tokens; -1 for masked experts."""
        scores = [self.statistics_of(target.reader) for target in self.targets]
        return [torch.where(kept_experts(t.units), score, -1.0) for t, score in zip(self.targets, scores, strict=True)]
