"""Losses on the routers of experts: how the teacher routes, and whether all experts get tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from losses.loss import Loss, LossValues, valid_tokens
from losses.pairing import LayerLoss
from students.families.expert_layers import expert_layers, experts_per_block
from students.families.families import family, find_stack
from students.recording.batch import Batch
from students.recording.signals import Signals, Trace, check_signals

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def router_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ``KL(teacher, student)`` of the routing of each token, [...] from logits [..., E], in float32."""
    log_q, log_p = (logits.float().log_softmax(-1) for logits in (student, teacher))
    return torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0).sum(-1)


def load_balancing(logits: Tensor, per_token: int) -> Tensor:
    """Return ``E sum_e f_e P_e`` of all rows of logits [N, E], a float32 scalar; k if the load is balanced.

    ``f_e`` is the ratio of rows that are sent to expert e, which has no gradient, and ``P_e`` the mean of its
    probability (Switch Transformers, equations 4 to 6; with k experts for a row ``f`` sums to k, as in transformers).
    """
    probabilities = logits.float().softmax(-1)
    chosen = probabilities.topk(min(per_token, logits.shape[-1]), dim=-1).indices
    sent = torch.zeros_like(probabilities).scatter(-1, chosen, 1.0)
    return logits.shape[-1] * (sent.mean(0) * probabilities.mean(0)).sum()


@dataclass(kw_only=True, eq=False)
class RouterKL(LayerLoss):
    """KL of the routing of each token over the experts, teacher to student.

    Both have the same experts, as a student of fewer blocks has; ``layers`` must name blocks with experts.
    """

    signal = "routing"
    uses_routing: ClassVar[bool] = True
    """Whether it compares all experts of student and teacher."""

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the routers of the paired blocks.

        Raises:
            ValueError: if there is no teacher, a block has no experts, or the numbers of experts differ.
        """
        super().setup(student, teacher)
        for name, config, layers in (
            ("student", student, self.pairing.student_layers),
            ("teacher", teacher, self.pairing.teacher_layers),
        ):
            known = expert_layers(config, self.stack)
            if lacking := [str(layer) for layer in layers if layer not in known]:
                raise ValueError(
                    f"layers: the {name} has no experts in block {', '.join(lacking)}; pair blocks with experts, as in "
                    f"{{1: {known[0]}}}"
                )
        counts = [experts_per_block(config, self.stack) for config in (student, teacher)]
        if counts[0] != counts[1]:
            raise ValueError(f"the student has {counts[0]} experts in a block, the teacher {counts[1]}; leave it out")

    def count(self, batch: Batch) -> Tensor:
        """Return the number of tokens that are not padding."""
        return self.valid(batch).sum()

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the tokens and the layer pairs, and the number of tokens."""
        valid, (student_stack, teacher_stack) = self.valid(batch), self.stacks
        return self.pairing.at(values.epoch).total(
            lambda s, t: router_kl(
                student.routing[student_stack, s][valid], teacher.routing[teacher_stack, t][valid]
            ).sum()
        ), valid.sum()


@dataclass(kw_only=True, eq=False)
class LoadBalancing(Loss):
    """The auxiliary loss of a mixture, by which all experts get tokens (Fedus et al. 2021, arXiv 2101.03961).

    It is that of transformers, over the tokens of all layers together, times ``router_aux_loss_coef`` of the student's
    config. The load is that of a batch: the loss of several batches, as over an accumulation window or processes, is
    the mean of theirs, weighted by tokens.

    Args:
        coefficient: the factor of the loss; by default that of the config, or 0.001 if it has none.
        stack: ``encoder`` or ``decoder``; by default the model's first.
    """

    balances_experts: ClassVar[bool] = True

    coefficient: float | None = None
    stack: str | None = None

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the student's routers.

        Raises:
            ValueError: if the student has none, or the coefficient is below 0.
        """
        if self.coefficient is not None and self.coefficient < 0:
            raise ValueError(f"coefficient: must be at least 0, not {self.coefficient}")
        self.name, _ = find_stack(student, self.stack)
        layers = frozenset((self.name, layer) for layer in expert_layers(student, self.stack))
        check_signals(student, Signals(routing=frozenset({(self.name, 1)})))
        self.student_signals = Signals(routing=layers)
        parts = family(student).stacks[self.name].experts
        self.per_token = getattr(student, parts.per_token) if parts.per_token else 1
        self.factor = getattr(student, "router_aux_loss_coef", 0.001) if self.coefficient is None else self.coefficient

    def count(self, batch: Batch) -> Tensor:
        """Return the number of tokens that are not padding."""
        return valid_tokens(batch, self.stack).sum()

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the loss of the batch times its tokens, and their number."""
        valid = valid_tokens(batch, self.stack)
        rows = torch.cat([student.routing[site][valid] for site in sorted(self.student_signals.routing)])
        total = valid.sum()
        return self.factor * load_balancing(rows, self.per_token) * total, total
