"""Pruning by gradients: how a gate on each entry, tile, neuron or head would change the loss.

If a gate ``xi = 1`` multiplies the output of an item, then ``dL/dxi = sum_i w_i dL/dw_i`` over the weights that read
the item. All scores here are sums over the steps of a function of this gate gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prune_schedules.ranking import magnitude
from prune_schedules.schedule import Timeline, TimePoint
from prune_schedules.scores.pruner import ScoredPruner
from prune_schedules.targets.mask import Mask, apply_mask
from students.processes import full_tensor
from students.weights import full_parameter, get_weight_transforms, raw_parameter, shard_like

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ADAM_BETA2 = 0.999


def gate_gradient(weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Return ``sum_i w_i dL/dw_i`` over the last axis and all tensors, [...], in float32 at least."""
    dtype = torch.promote_types(weights[0].dtype, torch.float32)
    return sum((w.to(dtype) * g.to(dtype)).sum(dim=-1) for w, g in zip(weights, gradients, strict=True))


@dataclass(kw_only=True)
class GradientScored(ScoredPruner):
    """A pruner whose scores are updated at optimizer steps from the gate gradients of the targets.

    The gradients are those of all ranks and of the whole batch, before clipping. Masked items have one too, as if they
    were not masked, and so may come back. A step with a gradient that is not finite, as after an overflow under
    ``16-mixed``, is left out, as the optimizer leaves it out: on all ranks, since all have the same gradients.
    """

    @abstractmethod
    def update_scores(self, gradients: list[Tensor], step: int, timeline: Timeline) -> None:
        """Update the scores from the gate gradients of one step, a tensor for each of ``targets``."""

    def first_step(self, timeline: Timeline) -> int:
        """Return the first step that counts: one period of updates before the first masks."""
        start, _, period = self._window(timeline)
        return max(0, start - period)

    def check(self, timeline: Timeline) -> None:
        """Check the schedules; nothing can be removed before there was a gradient."""
        super().check(timeline)
        if self._window(timeline)[0] == 0 and (initial := self.sparsity.value(0, timeline)) > 0:
            raise ValueError(f"sparsity: is {initial} at step 0, before there are gradients")

    def accumulates_gradients(self, step: int, timeline: Timeline) -> bool:
        """Return whether the gradients of a step count."""
        return self.first_step(timeline) <= step < self._window(timeline)[1]

    def before_forward(self, step: int, timeline: Timeline, batch: dict[str, Tensor]) -> None:
        """Let gradients of masked items through."""
        super().before_forward(step, timeline, batch)
        for target in self.targets if self.accumulates_gradients(step, timeline) else []:
            target.accumulate_gradients(True)

    @torch.no_grad()
    def before_optimizer_step(self, step: int, timeline: Timeline) -> None:
        """Update the scores from the gradients, then mask the gradients."""
        if self.accumulates_gradients(step, timeline):
            masks = [item for target in self.targets for item in target.outgoing_masks.items()]
            factors = [mask.factor() for _, mask in masks]
            for target in self.targets:
                target.accumulate_gradients(False)
            gradients = [
                gate_gradient(target.outgoing_entries(full_parameter), target.outgoing_entries(_gradient))
                for target in self.targets
            ]
            if torch.stack([gradient.isfinite().all() for gradient in gradients]).all():
                self.update_scores(gradients, step, timeline)
            for ((module, name), _), factor in zip(masks, factors, strict=True):
                gradient = raw_parameter(module, name).grad
                if factor is not None and gradient is not None:
                    gradient.mul_(shard_like(factor.expand(gradient.shape), gradient))
        super().before_optimizer_step(step, timeline)


class _SummedScores(GradientScored):
    """Sums a function of the gate gradients over the steps."""

    @abstractmethod
    def contribution(self, gradient: Tensor) -> Tensor:
        """Return the summand of one step, from the gate gradients of a target."""

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Add masks to the model, all disabled, with no sums."""
        super().attach(model, seed)
        self.score_sums: list[Tensor] | None = None

    def update_scores(self, gradients: list[Tensor], step: int, timeline: Timeline) -> None:
        """Add to the sums."""
        self.score_sums = _add(self.score_sums, [self.contribution(gradient) for gradient in gradients])

    def scores(self) -> list[Tensor]:
        """Return the sums; where no gradient was finite, the magnitudes of the weights."""
        if self.score_sums is None:
            return [magnitude(target.outgoing_entries(full_parameter)) for target in self.targets]
        return self.score_sums

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return the sums."""
        return {} if self.score_sums is None else {"score_sums": self.score_sums}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Load the sums."""
        self.score_sums = list(state["score_sums"])


@dataclass(kw_only=True)
class Movement(_SummedScores):
    """Removes the weights that training moves towards zero (Sanh, Wolf and Rush 2020, arXiv 2005.07683).

    ``S = -sum_t xi'_t / sqrt(v_t)`` from the first step on, masked weights included: ``xi' = w dL/dw`` is the gradient
    of a score that is learned straight through the mask, and ``v`` Adam's mean of its squares. It grows where a weight
    grows. Adam updates the scores, as in the paper's code: the plain sums of its formula are lowest, by chance, where
    gradients are largest. Momentum does not change a sum, and a learning rate does not change the order of the scores,
    so neither is here.
    """

    every: TimePoint = TimePoint("1 steps")
    """The period of mask updates while the sparsity changes, by default one step. The score of a masked weight that is
    needed grows from its masking on, all such scores at once: with a longer period they would pass those of the kept
    weights by the next update, and the two would change places."""

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Add masks to the model, all disabled, with no sums."""
        super().attach(model, seed)
        self.square_sums: list[Tensor] | None = None

    def update_scores(self, gradients: list[Tensor], step: int, timeline: Timeline) -> None:
        """Take a step of Adam."""
        self.square_sums = _add(self.square_sums, [gradient.square() for gradient in gradients], _ADAM_BETA2)
        weight = (1 - _ADAM_BETA2 ** (step + 1)) / (1 - _ADAM_BETA2)
        # A gradient whose square underflows moves nothing: its root must not be smaller than it is.
        roots = [(square / weight).clamp(min=torch.finfo(square.dtype).tiny).sqrt() for square in self.square_sums]
        super().update_scores(
            [gradient / root for gradient, root in zip(gradients, roots, strict=True)], step, timeline
        )

    def contribution(self, gradient: Tensor) -> Tensor:
        """Return the negative gradient."""
        return -gradient

    def first_step(self, timeline: Timeline) -> int:
        """Return the first step of the run."""
        return 0

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return the scores and the sums of squares."""
        return super().state_dict() | ({} if self.square_sums is None else {"square_sums": self.square_sums})

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Load the scores and the sums of squares."""
        super().load_state_dict(state)
        self.square_sums = list(state["square_sums"])


class _SinceLastUpdate(_SummedScores):
    """Resets the sums at each update of the masks: the next scores are those of the current model."""

    def update_masks(self, sparsity: float) -> None:
        """Mask the lowest scores, and reset the sums."""
        super().update_masks(sparsity)
        self.score_sums = None


class Taylor(_SinceLastUpdate):
    """Removes what changes the loss least, to first order (Molchanov et al. 2017, arXiv 1611.06440).

    ``sum_t |dL/dxi|`` over the steps since the last update of the masks; on heads the head importance of Michel, Levy
    and Neubig 2019 (arXiv 1905.10650), there of single examples, here of batches.
    """

    def contribution(self, gradient: Tensor) -> Tensor:
        """Return ``|xi'|``."""
        return gradient.abs()


class Fisher(_SinceLastUpdate):
    """Removes what changes the loss least, to second order (OBD: LeCun, Denker and Solla 1990).

    ``sum_t (dL/dxi)^2 / 2`` over the steps since the last update of the masks: ``h w^2 / 2`` with the squared gradients
    of batches for the diagonal h of the Hessian.
    """

    def contribution(self, gradient: Tensor) -> Tensor:
        """Return ``xi'^2 / 2``."""
        return gradient.square() / 2


def _add(sums: list[Tensor] | None, terms: list[Tensor], decay: float = 1.0) -> list[Tensor]:
    """Return ``decay * sums + terms``, in place, on the device of the terms; loaded sums may be on another one."""
    if sums is None:
        return terms
    return [total.to(term.device).mul_(decay).add_(term) for total, term in zip(sums, terms, strict=True)]


def _gradient(module: nn.Module, name: str) -> Tensor:
    """Return the gradient of a parameter, masked by other pruners' masks that still let gradients through."""
    parameter = raw_parameter(module, name)
    gradient = full_tensor(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    masks = [step for step in get_weight_transforms(module, name) if isinstance(step, Mask) and step.straight_through]
    factors = (mask.factor() for mask in masks)
    return reduce(apply_mask, (factor for factor in factors if factor is not None), gradient)
