"""L0 pruning: stochastic gates whose probabilities are learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.gradient import GradientScored

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GAMMA, ZETA, BETA = -0.1, 1.1, 2 / 3
"""The constants of the paper: the interval of the stretched gates, and the temperature."""


def hard_concrete(logits: Tensor, uniform: Tensor) -> Tensor:
    """Return gates in [0, 1], exactly 0 or 1 with some probability (Louizos et al. 2018, arXiv 1712.01312).

    ``z = clip(s (zeta - gamma) + gamma, 0, 1)`` with ``s = sigmoid((log u - log(1 - u) + log a) / beta)``.

    Args:
        logits: ``log a``.
        uniform: ``u``, from [0, 1).
    """
    noise = torch.logit(uniform, eps=1e-6)
    return (torch.sigmoid((noise + logits) / BETA) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def open_probability(logits: Tensor) -> Tensor:
    """Return ``P(z > 0) = sigmoid(log a - beta log(-gamma / zeta))``."""
    return torch.sigmoid(logits - BETA * math.log(-GAMMA / ZETA))


def shift_to_sparsity(logits: Tensor, sparsity: float) -> Tensor:
    """Return the logits [n] plus one number, by which the expected ratio of closed gates is the sparsity.

    The number solves ``mean P(z > 0) = 1 - sparsity``; its gradient is that of the solution, so that a change of all
    logits by the same number has none.
    """
    with torch.no_grad():
        sample = logits[:: 1 + len(logits) // 4096]
        low, high = -sample.max() - 20, -sample.min() + 20
        for _ in range(40):
            shift = (low + high) / 2
            too_few = open_probability(sample + shift).mean() < 1 - sparsity
            low, high = torch.where(too_few, shift, low), torch.where(too_few, high, shift)
    probabilities = open_probability(logits + shift)
    slope = (probabilities * (1 - probabilities)).mean().detach()
    # One Newton step over all logits: it corrects the sample, and has the gradient of the implicit function.
    return logits + shift - (probabilities.mean() - (1 - sparsity)) / slope.clamp(min=1e-6)


@dataclass(kw_only=True)
class L0(GradientScored):
    """Removes what learned gates close (Louizos et al. 2018, arXiv 1712.01312).

    While the sparsity changes, the output of each entry, tile or unit is multiplied in training by a hard concrete
    gate. The expected ratio of closed gates is the sparsity of the step, kept by one number that is added to all logits
    (in CoFi, Xia, Zhong and Chen 2022, arXiv 2204.00408, by Lagrange multipliers, which overshoot). Validation, and the
    steps after the window, use masks: the gates with the highest probability of being open stay.
    """

    lr: float = 0.1
    """The learning rate of the gates' own Adam optimizer."""

    def __post_init__(self):
        if self.scope is None:
            self.scope = "global"
        super().__post_init__()
        if self.scope not in ("layer", "global"):
            raise ValueError(f"scope: L0 sets the sparsity of each layer or of all (global), not of a {self.scope}")
        if self.dropout != Constant(0.0):
            raise ValueError("dropout: the gates of L0 are random already; leave it out")
        if self.lr <= 0:
            raise ValueError(f"lr: must be above 0, not {self.lr}")

    def first_step(self, timeline: Timeline) -> int:
        """Return the first step of the schedule's window."""
        return self._window(timeline)[0]

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Add masks to the model, all disabled, and gates with logits of 0, which always stay on the CPU."""
        super().attach(model, seed)
        self.logits = [torch.zeros_like(numbers).requires_grad_() for numbers in self.random_numbers(0)]
        self.optimizer = torch.optim.Adam(self.logits, lr=self.lr)

    def before_forward(self, step: int, timeline: Timeline, batch: dict[str, Tensor]) -> None:
        """Replace the masks by sampled gates."""
        super().before_forward(step, timeline, batch)
        if not self.accumulates_gradients(step, timeline):
            return
        with torch.enable_grad():
            shifted = self.shifted_logits(self.sparsity.value(step, timeline))
            pairs = zip(shifted, self.random_numbers(step), strict=True)
            self._gates = [hard_concrete(logits, uniform) for logits, uniform in pairs]
        for target, gates in zip(self.targets, self._gates, strict=True):
            target.set_gates(gates.detach().to(next(target.reader.parameters()).device))
            target.suspend_mask()

    def before_optimizer_step(self, step: int, timeline: Timeline) -> None:
        """Update the logits from the gradients, and remove the gates."""
        super().before_optimizer_step(step, timeline)
        for target in self.targets:
            target.set_gates(None)

    def update_scores(self, gradients: list[Tensor], step: int, timeline: Timeline) -> None:
        """Take a step of the gates' optimizer."""
        self.optimizer.zero_grad()
        torch.autograd.backward(self._gates, [gradient.cpu() for gradient in gradients])
        self.optimizer.step()

    def shifted_logits(self, sparsity: float) -> list[Tensor]:
        """Return the logits shifted so that each layer, or all together, have this expected sparsity."""
        flat = [logits.flatten() for logits in self.logits]
        if self.scope == "layer":
            shifted = [shift_to_sparsity(logits, sparsity) for logits in flat]
        else:
            shifted = shift_to_sparsity(torch.cat(flat), sparsity).split([len(logits) for logits in flat])
        return [new.view_as(logits) for new, logits in zip(shifted, self.logits, strict=True)]

    def scores(self) -> list[Tensor]:
        """Return the logits: the gates with the highest probability of being open stay."""
        return [logits.detach() for logits in self.logits]

    def state_dict(self) -> dict[str, object]:
        """Return the logits and the state of their optimizer."""
        return {"logits": self.scores(), "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, object]) -> None:
        """Load the logits and the state of their optimizer."""
        for logits, saved in zip(self.logits, state["logits"], strict=True):
            logits.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
