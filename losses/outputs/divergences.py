"""How far one distribution over classes is from another."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def soften(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, top_k: int | None = None, tail: bool = True
) -> tuple[Tensor, Tensor]:
    """``log q`` of the student and ``log p`` of the teacher, [..., C] each, of logits over a temperature.

    With ``top_k``, over the teacher's likeliest K classes alone: with ``tail`` the mass of all others is one class
    more, [..., K + 1]; without it both are renormalised, [..., K].
    """
    log_q = F.log_softmax(student.float() / temperature, dim=-1)
    log_p = F.log_softmax(teacher.float() / temperature, dim=-1)
    if top_k is None or top_k >= log_p.shape[-1]:
        return log_q, log_p
    best = log_p.topk(top_k, dim=-1).indices
    if not tail:
        return tuple(F.log_softmax(log.gather(-1, best), dim=-1) for log in (log_q, log_p))
    # log(1 - sum) would lose a tail of 1e-8; adding up what is left does not
    return tuple(
        torch.cat([log.gather(-1, best), log.scatter(-1, best, -math.inf).logsumexp(-1, keepdim=True)], -1)
        for log in (log_q, log_p)
    )


def mixture(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    """``log(share p + (1 - share) q)``, [..., C]."""
    if share in (0.0, 1.0):
        return log_p if share else log_q
    return torch.logaddexp(log_p + math.log(share), log_q + math.log1p(-share))


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``KL(p, q) = sum p (log p - log q)``, [...] of [..., C]."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def jensen_shannon(log_p: Tensor, log_q: Tensor, beta: float = 0.5) -> Tensor:
    """``beta KL(p, m) + (1 - beta) KL(q, m)`` with ``m = beta p + (1 - beta) q``, [...] of [..., C]."""
    log_m = mixture(log_p, log_q, beta)
    return beta * kl(log_p, log_m) + (1 - beta) * kl(log_q, log_m)


def skew_kl(log_p: Tensor, log_q: Tensor, alpha: float = 0.1) -> Tensor:
    """``KL(p, alpha p + (1 - alpha) q)``, [...] of [..., C]; at most ``-log alpha``."""
    return kl(log_p, mixture(log_p, log_q, alpha))


def total_variation(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``1/2 sum |p - q|``, [...] of [..., C], in [0, 1]."""
    return 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)
