"""Divergences between distributions over classes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def soften(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, top_k: int | None = None, tail: bool = True
) -> tuple[Tensor, Tensor]:
    """Return ``log q`` of the student and ``log p`` of the teacher, [..., C] each, from logits over a temperature.

    With ``top_k``, they are over the teacher's K most probable classes: with ``tail`` the total probability of all
    others is one more class, [..., K + 1]; without it both are renormalised, [..., K].
    """
    log_q = F.log_softmax(student.float() / temperature, dim=-1)
    log_p = F.log_softmax(teacher.float() / temperature, dim=-1)
    if top_k is None or top_k >= log_p.shape[-1]:
        return log_q, log_p
    top = log_p.topk(top_k, dim=-1).indices
    if not tail:
        return tuple(F.log_softmax(log.gather(-1, top), dim=-1) for log in (log_q, log_p))
    # log(1 - sum) would lose a tail of 1e-8; the sum of the other classes does not
    return tuple(
        torch.cat([log.gather(-1, top), log.scatter(-1, top, -math.inf).logsumexp(-1, keepdim=True)], -1)
        for log in (log_q, log_p)
    )


def mixture(log_p: Tensor, log_q: Tensor, weight: float) -> Tensor:
    """Return ``log(weight p + (1 - weight) q)``, [..., C]."""
    if weight in (0.0, 1.0):
        return log_p if weight else log_q
    return torch.logaddexp(log_p + math.log(weight), log_q + math.log1p(-weight))


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return ``KL(p, q) = sum p (log p - log q)``, [...] from [..., C]."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def jensen_shannon(log_p: Tensor, log_q: Tensor, beta: float = 0.5) -> Tensor:
    """Return ``beta KL(p, m) + (1 - beta) KL(q, m)`` with ``m = beta p + (1 - beta) q``, [...] from [..., C]."""
    log_m = mixture(log_p, log_q, beta)
    return beta * kl(log_p, log_m) + (1 - beta) * kl(log_q, log_m)


def skew_kl(log_p: Tensor, log_q: Tensor, alpha: float = 0.1) -> Tensor:
    """Return ``KL(p, alpha p + (1 - alpha) q)``, [...] from [..., C]; at most ``-log alpha``."""
    return kl(log_p, mixture(log_p, log_q, alpha))


def total_variation(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return ``1/2 sum |p - q|``, [...] from [..., C], in [0, 1]."""
    return 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)
