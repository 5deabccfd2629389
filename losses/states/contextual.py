"""How hidden states stand to one another: over the tokens of a text, the layers of a token, or the texts of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.loss import LossValues, matmul_float32
from losses.pairing import LayerLoss, Layers
from losses.states.hidden import pool
from students.recording.batch import Batch
from students.recording.signals import Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NEIGHBOURS = 2
"""Angles are taken among the two neighbours on either side: a window of five, as all triples would be O(n^3)."""


def cosines(states: Tensor) -> Tensor:
    """``cos(x_i, x_j)`` [G, n, n] of items [G, n, H], in float32."""
    normal = F.normalize(states.float(), dim=-1)
    return matmul_float32(normal, normal.mT)


MIN_EDGE = 1e-3
"""Items less than this share of their norm apart are one and the same: which way the other lies is left to rounding,
and the gradient of it grows as one over the distance.
"""


def angles(states: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``cos`` of the angle at an item between two neighbours, [G, n, 4, 4] of [G, n, H]; where both exist; and where
    both are apart from it.
    """
    padded, there = F.pad(states.float(), (0, 0, NEIGHBOURS, NEIGHBOURS)), F.pad(present, (NEIGHBOURS, NEIGHBOURS))
    size, offsets = states.shape[1], [o for o in range(2 * NEIGHBOURS + 1) if o != NEIGHBOURS]
    edges = torch.stack([padded[:, o : o + size] for o in offsets], 2) - states.float()[:, :, None]
    apart = edges.detach().norm(dim=-1) > MIN_EDGE * states.detach().float().norm(dim=-1, keepdim=True)
    edges = F.normalize(edges, dim=-1)
    both = torch.stack([there[:, o : o + size] for o in offsets], 2) & present[:, :, None]
    exists = (both[..., None] & both[..., None, :]).triu(1)
    return matmul_float32(edges, edges.mT), exists, apart[..., None] & apart[..., None, :]


def contextual(student: Tensor, teacher: Tensor, present: Tensor) -> Tensor:
    """Squared error of the cosines, mean over the other items, plus that of the angles, mean over the triples: [G, n].

    Of items [G, n, H_S] and [G, n, H_T]; the widths may differ. Items that are not ``present`` [G, n] count nothing.
    A triple of which an edge vanishes in either model has no angle there: it adds 0, and is one of those of the mean.
    """
    others = (present[:, :, None] & present[:, None, :]) & ~torch.eye(present.shape[1], device=present.device).bool()
    pairs = torch.where(others, cosines(student) - cosines(teacher), 0.0).square()
    (mine, exists, apart), (theirs, _, other) = angles(student, present), angles(teacher, present)
    triples = torch.where(exists & apart & other, mine - theirs, 0.0).square()
    return pairs.sum(-1) / others.sum(-1).clamp(min=1) + triples.sum((-1, -2)) / exists.sum((-1, -2)).clamp(min=1)


@dataclass(kw_only=True, eq=False)
class Contextual(LayerLoss):
    """Cosines between hidden states and angles among three: the student has to lay them out as the teacher does.

    Over ``tokens`` it is CKD's word relation and over ``layers`` its layer-transforming relation (Park, Kim, Yang 2021,
    arXiv 2109.08359), with squared errors; over ``examples`` it is the representational distance of McClure and
    Kriegeskorte (2016, arXiv 1511.03979), with cosines, and depends on how rows are batched. No projection is needed.
    Angles at items that are one and the same in either model (repeated first tokens, blocks that do nothing) add 0.

    Args:
        over: what is related: the tokens of a text, in each pair of layers; the compared layers of a token; or the
            examples of a batch of one process, by their mean states.
    """

    signal = "hidden"

    layers: Layers = "uniform"
    over: Literal["tokens", "layers", "examples"] = "tokens"

    @property
    def compares_examples(self) -> bool:
        return self.over == "examples"

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Ask for the layers that are compared.

        Raises:
            ValueError: if layers are to be related, and there are fewer than two, or they have no order.
        """
        super().setup(student, teacher)
        if self.over == "layers" and not self.pairing.is_sequence:
            raise ValueError(f"layers: layers are related to one another, and {self.layers!r} gives no two in a row")

    def count(self, batch: Batch) -> Tensor:
        """The number of tokens that are not padding, or of examples."""
        valid = self.valid(batch)
        return valid.new_tensor(len(valid), dtype=torch.long) if self.over == "examples" else valid.sum()

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Sum over the tokens or examples, and over the layer pairs but where layers are related; their number."""
        valid, (mine, theirs), pairing = self.valid(batch), self.stacks, self.pairing.at(values.epoch)

        def seen(layer: int) -> Tensor:
            return student.hidden[mine, layer].float()

        def taught(layer: int) -> Tensor:
            return teacher.hidden[theirs, layer].float()

        def cost(s: int, t: int) -> Tensor:
            if self.over == "examples":
                pooled = [pool(state, valid, "mean")[None] for state in (seen(s), taught(t))]
                return contextual(*pooled, valid.any(1)[None]).sum()
            states = [torch.where(valid[..., None], state, 0.0) for state in (seen(s), taught(t))]
            return contextual(*states, valid).sum()

        if self.over != "layers":
            return pairing.total(cost), self.count(batch)
        ours = torch.stack([seen(s)[valid] for s, _ in pairing.pairs], 1)
        other = torch.stack([taught(t)[valid] for _, t in pairing.pairs], 1)
        return contextual(ours, other, ours.new_ones(ours.shape[:2]).bool()).mean(1).sum(), self.count(batch)
