"""Losses on relations between hidden states: of the tokens of a text, the layers of a token, the texts of a batch."""

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
"""Angles are taken between the two neighbours on either side: a window of five, as all triples would be O(n^3)."""


def cosines(states: Tensor) -> Tensor:
    """Return ``cos(x_i, x_j)`` [G, n, n] of items [G, n, H], in float32."""
    normal = F.normalize(states.float(), dim=-1)
    return matmul_float32(normal, normal.mT)


MIN_EDGE = 1e-3
"""Items closer than this times their norm count as equal: the direction between them is rounding noise, and its
gradient grows as one over their distance."""


def angles(states: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cosine of the angle at an item between two neighbours, [G, n, 4, 4], and two masks of that shape.

    Args:
        states: items [G, n, H].
        present: bool [G, n].

    Returns:
        The cosines, whether both neighbours exist, and whether both are distinct from the item.
    """
    padded, padded_present = (
        F.pad(states.float(), (0, 0, NEIGHBOURS, NEIGHBOURS)),
        F.pad(present, (NEIGHBOURS, NEIGHBOURS)),
    )
    size, offsets = states.shape[1], [o for o in range(2 * NEIGHBOURS + 1) if o != NEIGHBOURS]
    edges = torch.stack([padded[:, o : o + size] for o in offsets], 2) - states.float()[:, :, None]
    distinct = edges.detach().norm(dim=-1) > MIN_EDGE * states.detach().float().norm(dim=-1, keepdim=True)
    edges = F.normalize(edges, dim=-1)
    both = torch.stack([padded_present[:, o : o + size] for o in offsets], 2) & present[:, :, None]
    exists = (both[..., None] & both[..., None, :]).triu(1)
    return matmul_float32(edges, edges.mT), exists, distinct[..., None] & distinct[..., None, :]


def contextual(student: Tensor, teacher: Tensor, present: Tensor) -> Tensor:
    """Return the squared error of the cosines, averaged over the other items, plus that of the angles, averaged over
    the triples: [G, n].

    A triple in which two items are equal in either model has no angle: it counts as 0 in the average.

    Args:
        student: items [G, n, H_S].
        teacher: items [G, n, H_T].
        present: bool [G, n]; other items do not count.
    """
    others = (present[:, :, None] & present[:, None, :]) & ~torch.eye(present.shape[1], device=present.device).bool()
    pairs = torch.where(others, cosines(student) - cosines(teacher), 0.0).square()
    student_angles, exists, student_distinct = angles(student, present)
    teacher_angles, _, teacher_distinct = angles(teacher, present)
    has_angle = exists & student_distinct & teacher_distinct
    triples = torch.where(has_angle, student_angles - teacher_angles, 0.0).square()
    return pairs.sum(-1) / others.sum(-1).clamp(min=1) + triples.sum((-1, -2)) / exists.sum((-1, -2)).clamp(min=1)


@dataclass(kw_only=True, eq=False)
class Contextual(LayerLoss):
    """Squared error of the cosines between two hidden states and of the angles between three.

    Over ``tokens`` it is CKD's word relation and over ``layers`` its layer-transforming relation (Park, Kim, Yang 2021,
    arXiv 2109.08359), with squared errors; over ``examples`` it is the representational distance of McClure and
    Kriegeskorte (2016, arXiv 1511.03979), with cosines, and depends on how rows are batched. No projection is needed.
    Angles between items that are equal in either model (repeated first tokens, identity blocks) count as 0.

    Args:
        over: the related items: the tokens of a text, in each pair of layers; the compared layers of a token; or the
            examples of a batch of one process, by their mean states.
    """

    signal = "hidden"

    layers: Layers = "uniform"
    over: Literal["tokens", "layers", "examples"] = "tokens"

    @property
    def compares_examples(self) -> bool:
        return self.over == "examples"

    @property
    def compares_tokens(self) -> bool:
        return self.over != "examples"

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the layers that are compared.

        Raises:
            ValueError: if layers are related, and there are fewer than two, or they have no order.
        """
        super().setup(student, teacher)
        if self.over == "layers" and not self.pairing.is_sequence:
            raise ValueError(
                f"layers: over: layers needs two or more pairs in order, which {self.layers!r} does not give"
            )

    def count(self, batch: Batch) -> Tensor:
        """Return the number of tokens that are not padding, or of examples."""
        valid = self.valid(batch)
        return valid.new_tensor(len(valid), dtype=torch.long) if self.over == "examples" else valid.sum()

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the tokens or examples (and over the layer pairs unless layers are related), and their
        number.
        """
        valid, (student_stack, teacher_stack) = self.valid(batch), self.stacks
        pairing = self.pairing.at(values.epoch)

        def student_state(layer: int) -> Tensor:
            return student.hidden[student_stack, layer].float()

        def teacher_state(layer: int) -> Tensor:
            return teacher.hidden[teacher_stack, layer].float()

        def cost(s: int, t: int) -> Tensor:
            states = student_state(s), teacher_state(t)
            if self.over == "examples":
                masks = valid, self.teacher_valid(teacher, batch)
                pooled = [pool(state, mask, "mean")[None] for state, mask in zip(states, masks, strict=True)]
                return contextual(*pooled, valid.any(1)[None]).sum()
            return contextual(*(torch.where(valid[..., None], state, 0.0) for state in states), valid).sum()

        if self.over != "layers":
            return pairing.total(cost), self.count(batch)
        student_layers = torch.stack([student_state(s)[valid] for s, _ in pairing.pairs], 1)
        teacher_layers = torch.stack([teacher_state(t)[valid] for _, t in pairing.pairs], 1)
        present = student_layers.new_ones(student_layers.shape[:2]).bool()
        return contextual(student_layers, teacher_layers, present).mean(1).sum(), self.count(batch)
