"""The student's hidden states against the teacher's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig

from losses.loss import Loss, PerExample, PerToken, valid_tokens
from students.families import depth, find_stack
from students.layers import Rule, pairs
from students.trace import Signals, Trace


def hidden_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error [B, S], mean over the last dimension of [B, S, H], in float32."""
    return (student.float() - teacher.float()).square().mean(-1)


def hidden_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """``1 - cos(h_S, h_T)`` [B, S] of states [B, S, H], in float32."""
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)


def patient(student: Tensor, teacher: Tensor) -> Tensor:
    """``| h_S/|h_S| - h_T/|h_T| |^2`` [B] of states [B, H], in float32."""
    return (F.normalize(student.float(), dim=-1) - F.normalize(teacher.float(), dim=-1)).square().sum(-1)


@dataclass(kw_only=True, eq=False)
class OnHidden(Loss):
    """What the losses on hidden states share: which layers are compared, and the projection between two widths.

    Each pair of layers is a term of the sum, as in the papers.

    Args:
        layers: which layer teaches which: a rule, or {student layer: teacher layer}; 0 is the input of the first block.
        stack: ``encoder`` or ``decoder`` of an encoder-decoder; the model's first if not given.
        project: always learn a linear map from the student's states to the teacher's; else only where the widths
            differ.
    """

    layers: Rule | dict[int, int] = "uniform"
    stack: str | None = None
    project: bool = False

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Asks for the states of the mapped layers, and makes a projection for each student layer where one is needed.

        Raises:
            ValueError: if there is no teacher, or a layer lies outside its model.
        """
        if teacher is None:
            raise ValueError("the loss compares with a teacher, and the run has none")
        student_stack, teacher_stack = find_stack(student, self.stack)[0], find_stack(teacher, self.stack)[0]
        found = pairs(self.layers, depth(student, self.stack), depth(teacher, self.stack))
        self.sites = [((student_stack, s), (teacher_stack, t)) for s, t in found]
        self.student_needs = Signals(hidden=frozenset(s for s, _ in self.sites))
        self.teacher_needs = Signals(hidden=frozenset(t for _, t in self.sites))
        needed = self.project or student.hidden_size != teacher.hidden_size
        self.projections = nn.ModuleList(
            nn.Linear(student.hidden_size, teacher.hidden_size) if needed else nn.Identity() for _ in self.sites
        )

    def compared(self, student: Trace, teacher: Trace) -> list[tuple[Tensor, Tensor]]:
        """The pairs (student state, projected; teacher state), [B, S, H of the teacher]."""
        return [
            (projection(student.hidden[s].float()), teacher.hidden[t].float())
            for projection, (s, t) in zip(self.projections, self.sites, strict=True)
        ]


class _PerTokenHidden(OnHidden, PerToken):
    distance = staticmethod(hidden_mse)

    def forward(self, student: Trace, teacher: Trace | None, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Sum over the tokens and the layer pairs, number of tokens."""
        valid, terms = valid_tokens(batch), []
        for s, t in self.compared(student, teacher):
            # masked before the distance too: 0 times the gradient of an overflow would be NaN
            s, t = (torch.where(valid[..., None], state, 0.0) for state in (s, t))
            terms.append(torch.where(valid, self.distance(s, t), 0.0).sum())
        return torch.stack(terms).sum(), valid.sum()


@dataclass(kw_only=True, eq=False)
class HiddenMSE(_PerTokenHidden):
    """Squared error of hidden states (FitNets, arXiv 1412.6550; TinyBERT, arXiv 1909.10351)."""


@dataclass(kw_only=True, eq=False)
class HiddenCosine(_PerTokenHidden):
    """One minus the cosine of hidden states (DistilBERT, Sanh et al. 2019, arXiv 1910.01108)."""

    layers: Rule | dict[int, int] = "top"
    distance = staticmethod(hidden_cosine)


@dataclass(kw_only=True, eq=False)
class PatientHidden(OnHidden, PerExample):
    """Squared distance of the normalised states of the first token (PKD, Sun et al. 2019, arXiv 1908.09355)."""

    layers: Rule | dict[int, int] = "skip"

    def forward(self, student: Trace, teacher: Trace | None, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Sum over the examples of the sum over the layer pairs, number of examples."""
        return sum(patient(s[:, 0], t[:, 0]).sum() for s, t in self.compared(student, teacher)), self.count(batch)
