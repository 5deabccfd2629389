"""Pruning by gates that are learned: each is open or not by chance, and training moves the chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.gates import Gated
from students.weights import raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOW, HIGH, TEMPERATURE = -0.1, 1.1, 2 / 3
"""Gamma, zeta and beta of the paper: the stretch of the gates, and how sharp they are."""


def hard_concrete(logits: Tensor, uniform: Tensor) -> Tensor:
    """A gate in [0, 1], at both ends with a probability of its own (Louizos et al. 2018, arXiv 1712.01312).

    ``z = clip(s (zeta - gamma) + gamma, 0, 1)`` with ``s = sigmoid((log u - log(1 - u) + log a) / beta)``, of ``log a``
    and ``u`` from [0, 1).
    """
    noise = torch.logit(uniform, eps=1e-6)
    return (torch.sigmoid((noise + logits) / TEMPERATURE) * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(logits: Tensor) -> Tensor:
    """``P(z > 0) = sigmoid(log a - beta log(-gamma / zeta))``."""
    return torch.sigmoid(logits - TEMPERATURE * math.log(-LOW / HIGH))


def closing(logits: Tensor, share: float) -> Tensor:
    """The logits [n] moved by one number, so that this share of the gates is expected to be closed.

    The number solves ``mean P(z > 0) = 1 - share``; its gradient is that of the solution, so that what all gates have
    in common has none.
    """
    with torch.no_grad():
        sample = logits[:: 1 + len(logits) // 4096]
        low, high = -sample.max() - 20, -sample.min() + 20
        for _ in range(40):
            middle = (low + high) / 2
            fewer = open_probability(sample + middle).mean() < 1 - share
            low, high = torch.where(fewer, middle, low), torch.where(fewer, high, middle)
    chances = open_probability(logits + middle)
    slope = (chances * (1 - chances)).mean().detach()
    # One step of Newton, over all: exact where the sample was one, and with the gradient of an implicit function.
    return logits + middle - (chances.mean() - (1 - share)) / slope.clamp(min=1e-6)


@dataclass(kw_only=True)
class L0(Gated):
    """Removes what a gate closes that is learned beside the weights (Louizos et al. 2018, arXiv 1712.01312).

    While the sparsity changes, what each entry, tile or unit sends is multiplied in training by a hard concrete gate.
    The expected share of closed gates is the sparsity of the step, held by one number that is added to all logits
    (in CoFi, Xia, Zhong and Chen 2022, arXiv 2204.00408, by Lagrange multipliers, which overshoot). Validation, and
    what comes after the window, see masks: the gates that are open most likely stay.
    """

    lr: float = 0.1
    """The learning rate of the gates, which Adam moves."""

    def __post_init__(self):
        if self.scope is None:
            self.scope = "global"
        super().__post_init__()
        if self.scope not in ("layer", "global"):
            raise ValueError(f"scope: L0 holds the share of a layer or, global, of all, not that of a {self.scope}")
        if self.drop != Constant(0.0):
            raise ValueError("drop: the gates of L0 are drawn at each step already")
        if self.lr <= 0:
            raise ValueError(f"lr: must be above 0, not {self.lr}")

    def first_step(self, timeline: Timeline) -> int:
        """The first step of the schedule's window."""
        return self._window(timeline)[0]

    def attach(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Put masks on the model, all off, and gates that are open; these stay on the CPU, wherever the model goes."""
        super().attach(model, seed)
        self.logits = [torch.zeros_like(draw).requires_grad_() for draw in self.draw(0)]
        self.optimizer = torch.optim.Adam(self.logits, lr=self.lr)

    def before_forward(self, step: int, timeline: Timeline, batch: dict[str, Tensor]) -> None:
        """Put the gates of the step in the place of the masks."""
        super().before_forward(step, timeline, batch)
        if not self.accumulates_gradients(step, timeline):
            return
        with torch.enable_grad():
            closed = self.closed(self.sparsity.value(step, timeline))
            self._drawn = [hard_concrete(*each) for each in zip(closed, self.draw(step), strict=True)]
        for part, gates in zip(self.parts, self._drawn, strict=True):
            part.set_gates(gates.detach().to(raw_parameter(part.reader).device))
            part.suspend_mask()

    def before_step(self, step: int, timeline: Timeline) -> None:
        """Look at the gradients; the gates have been used."""
        super().before_step(step, timeline)
        for part in self.parts:
            part.set_gates(None)

    def update_scores(self, gradients: list[Tensor], step: int, timeline: Timeline) -> None:
        """Move the gates."""
        self.optimizer.zero_grad()
        torch.autograd.backward(self._drawn, [gradient.cpu() for gradient in gradients])
        self.optimizer.step()

    def closed(self, share: float) -> list[Tensor]:
        """The logits with which this share, of each layer or of all, is expected to be closed."""
        flat = [logits.flatten() for logits in self.logits]
        if self.scope == "layer":
            moved = [closing(logits, share) for logits in flat]
        else:
            moved = closing(torch.cat(flat), share).split([len(logits) for logits in flat])
        return [new.view_as(logits) for new, logits in zip(moved, self.logits, strict=True)]

    def scores(self) -> list[Tensor]:
        """The logits: what is open most likely stays."""
        return [logits.detach() for logits in self.logits]

    def state(self) -> dict[str, object]:
        """The gates, and what Adam knows of them."""
        return {"logits": self.scores(), "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load_state(self, state: dict[str, object]) -> None:
        """Take them up."""
        for logits, saved in zip(self.logits, state["logits"], strict=True):
            logits.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
