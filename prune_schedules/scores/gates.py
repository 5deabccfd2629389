"""Pruning by gradients: what a gate on each entry, tile, neuron or head would do to the loss.

If ``xi = 1`` stands before everything that a part sends on, then ``dL/dxi = sum_i w_i dL/dw_i`` over the weights
by which it is sent. All scores here are sums over the steps of a function of this one number.
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

_FADE = 0.999
"""What is left of a square after a step: Adam's second beta."""


def gate_gradient(weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """``sum_i w_i dL/dw_i`` over the last axis and all tensors, [...], in float32 at least."""
    dtype = torch.promote_types(weights[0].dtype, torch.float32)
    return sum((w.to(dtype) * g.to(dtype)).sum(dim=-1) for w, g in zip(weights, gradients, strict=True))


@dataclass(kw_only=True)
class Gated(ScoredPruner):
    """Looks, at optimizer steps, at the gradient of each part's gate.

    The gradient is that of all ranks and of the whole batch, before it is clipped; what is masked has one too,
    as if it were not, and so may come back. One that is not finite, as after an overflow under ``16-mixed``, is left
    out, as the optimizer leaves it out: on all ranks, for all have the same.
    """

    @abstractmethod
    def update_scores(self, gradients: list[Tensor], step: int, timeline: Timeline) -> None:
        """Take up the gradients of the gates at one step, a tensor for each of ``parts``."""

    def first_step(self, timeline: Timeline) -> int:
        """The first step that is looked at: as long before the first masks as there lies between two of them."""
        start, _, period = self._window(timeline)
        return max(0, start - period)

    def check(self, timeline: Timeline) -> None:
        """Look through the schedule; nothing can be removed before a gradient was seen."""
        super().check(timeline)
        if self._window(timeline)[0] == 0 and self.sparsity.value(0, timeline) > 0:
            raise ValueError(
                f"sparsity: is {self.sparsity.value(0, timeline)} at once, before there are gradients to go by"
            )

    def accumulates_gradients(self, step: int, timeline: Timeline) -> bool:
        """Whether the gradients of a step are looked at."""
        return self.first_step(timeline) <= step < self._window(timeline)[1]

    def before_forward(self, step: int, timeline: Timeline, batch: dict[str, Tensor]) -> None:
        """Let gradients of what is masked through while they are looked at."""
        super().before_forward(step, timeline, batch)
        for part in self.parts if self.accumulates_gradients(step, timeline) else []:
            part.accumulate_gradients(True)

    @torch.no_grad()
    def before_step(self, step: int, timeline: Timeline) -> None:
        """Look at the gradients, then take those of what is masked away."""
        if self.accumulates_gradients(step, timeline):
            gates = [gate for part in self.parts for gate in part.gates.items()]
            stood = [mask.applied() for _, mask in gates]
            for part in self.parts:
                part.accumulate_gradients(False)
            found = [gate_gradient(part.sent(full_parameter), part.sent(_gradient)) for part in self.parts]
            if torch.stack([gradient.isfinite().all() for gradient in found]).all():
                self.update_scores(found, step, timeline)
            for ((module, name), _), factor in zip(gates, stood, strict=True):
                gradient = raw_parameter(module, name).grad
                if factor is not None and gradient is not None:
                    gradient.mul_(shard_like(factor.expand(gradient.shape), gradient))
        super().before_step(step, timeline)


class _Summed(Gated):
    """Adds up what a function makes of the gradients."""

    @abstractmethod
    def added(self, gradient: Tensor) -> Tensor:
        """What one step adds to the score, of the gradients of the gates."""

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Put masks on the model, all off, and begin with nothing seen."""
        super().attach(model, seed)
        self.seen: list[Tensor] | None = None

    def update_scores(self, gradients: list[Tensor], step: int, timeline: Timeline) -> None:
        """Add to the sums."""
        self.seen = _onto(self.seen, [self.added(gradient) for gradient in gradients])

    def scores(self) -> list[Tensor]:
        """The sums; where no gradient was finite, the size of the weights alone."""
        return [magnitude(part.sent(full_parameter)) for part in self.parts] if self.seen is None else self.seen

    def state(self) -> dict[str, list[Tensor]]:
        """The sums."""
        return {} if self.seen is None else {"seen": self.seen}

    def load_state(self, state: dict[str, list[Tensor]]) -> None:
        """Take the sums up."""
        self.seen = list(state["seen"])


@dataclass(kw_only=True)
class Movement(_Summed):
    """Removes what training moves towards zero (Sanh, Wolf and Rush 2020, arXiv 2005.07683).

    ``S = -sum_t xi'_t / sqrt(v_t)`` from the first step on, masked weights included: ``xi' = w dL/dw`` is the gradient
    of a score that learns straight through the mask, and ``v`` Adam's mean of its squares. It grows where a weight
    grows. Adam moves the scores, as in the paper's code: of the plain sums in its formula the lowest are, by chance,
    those with the largest gradients. Momentum is lost in a sum, and of a learning rate only the order of the scores
    would be left, so neither is here.
    """

    every: TimePoint = TimePoint("1 steps")
    """How often the masks are renewed while the sparsity changes: as a rule at each step. What is masked and missed
    rises in score from then on, all of it at once: by the next renewal it would stand above what was kept, and the two
    change places."""

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Put masks on the model, all off, and begin with nothing seen."""
        super().attach(model, seed)
        self.squares: list[Tensor] | None = None

    def update_scores(self, gradients: list[Tensor], step: int, timeline: Timeline) -> None:
        """Take a step of Adam."""
        self.squares = _onto(self.squares, [gradient.square() for gradient in gradients], _FADE)
        weight = (1 - _FADE ** (step + 1)) / (1 - _FADE)
        # A gradient whose square is no number any more moves nothing: its root must not be smaller than it is.
        roots = [(square / weight).clamp(min=torch.finfo(square.dtype).tiny).sqrt() for square in self.squares]
        super().update_scores(
            [gradient / root for gradient, root in zip(gradients, roots, strict=True)], step, timeline
        )

    def added(self, gradient: Tensor) -> Tensor:
        """Against the gradient."""
        return -gradient

    def first_step(self, timeline: Timeline) -> int:
        """The first step of the run."""
        return 0

    def state(self) -> dict[str, list[Tensor]]:
        """The scores, and the sums of squares."""
        return super().state() | ({} if self.squares is None else {"squares": self.squares})

    def load_state(self, state: dict[str, list[Tensor]]) -> None:
        """Take them up."""
        super().load_state(state)
        self.squares = list(state["squares"])


class _Renewed(_Summed):
    """Forgets what it has seen when masks are made of it: the next ones look at the model as it is then."""

    def renew(self, share: float) -> None:
        """Mask this share, and begin again."""
        super().renew(share)
        self.seen = None


class Taylor(_Renewed):
    """Removes what the loss would miss least, to first order (Molchanov et al. 2017, arXiv 1611.06440).

    ``sum_t |dL/dxi|`` over the steps since the last masks; on heads the head importance of Michel, Levy and
    Neubig 2019 (arXiv 1905.10650), there of single examples, here of batches.
    """

    def added(self, gradient: Tensor) -> Tensor:
        """``|xi'|``."""
        return gradient.abs()


class Fisher(_Renewed):
    """Removes what the loss would miss least, to second order (OBD: LeCun, Denker and Solla 1990).

    ``sum_t (dL/dxi)^2 / 2`` over the steps since the last masks: ``h w^2 / 2`` with the squared gradients of batches
    for the diagonal h of the Hessian.
    """

    def added(self, gradient: Tensor) -> Tensor:
        """``xi'^2 / 2``."""
        return gradient.square() / 2


def _onto(old: list[Tensor] | None, new: list[Tensor], fade: float = 1.0) -> list[Tensor]:
    """``fade old + new``, in place of the old; what was loaded lies where the model was then, and follows it."""
    if old is None:
        return new
    return [one.to(other.device).mul_(fade).add_(other) for one, other in zip(old, new, strict=True)]


def _gradient(module: nn.Module, name: str) -> Tensor:
    """The gradient of a parameter, as that of other gates on it is too, that have not been looked at yet."""
    parameter = raw_parameter(module, name)
    gradient = full_tensor(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    others = [
        step.applied() for step in get_weight_transforms(module, name) if isinstance(step, Mask) and step.straight
    ]
    return reduce(apply_mask, (factor for factor in others if factor is not None), gradient)
