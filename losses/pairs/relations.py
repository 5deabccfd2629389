"""Losses on relations between tokens inside queries, keys and values (MiniLM and MiniLMv2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from losses.loss import matmul_float32
from losses.pairing import Layers
from losses.pairs.attention import AttentionLoss, attention_kl, visible_pairs
from students.families.families import num_heads
from students.recording.signals import Attention
from students.structure.inherit import head_shape

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Relation = Literal["qk", "qq", "kk", "vv"]


def relation_scores(left: Tensor, right: Tensor, heads: int) -> Tensor:
    """Return ``X Y^T / sqrt(d_r)`` [B, R, S, S] in float32, from [B, A, S, D] with its A heads regrouped into R."""
    x, y = (z.transpose(1, 2).flatten(2).unflatten(-1, (heads, -1)).transpose(1, 2) for z in (left, right))
    return matmul_float32(x, y.mT) / x.shape[-1] ** 0.5


@dataclass(kw_only=True, eq=False)
class Relations(AttentionLoss):
    """KL of the relations between tokens, teacher to student, averaged over tokens and relation heads.

    ``[qq, kk, vv]`` is MiniLMv2 (Wang et al. 2020, arXiv 2012.15828); ``[qk, vv]`` with as many relation heads as heads
    is MiniLM (arXiv 2002.10957). Student and teacher may differ in width and in heads.

    Args:
        relations: the pairs of vectors that are related; each is one term of the sum.
        heads: number of relation heads; by default the student's number of heads.
    """

    layers: Layers = "top"
    relations: list[Relation] = field(default_factory=lambda: ["qq", "kk", "vv"])
    heads: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if not self.relations:
            raise ValueError("relations: name at least one of qk, qq, kk, vv")
        if self.heads is not None and self.heads < 1:
            raise ValueError(f"heads: must be at least 1, not {self.heads}")

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the attention of the paired blocks.

        Raises:
            ValueError: if the relation heads do not divide a model's width.
        """
        super().setup(student, teacher)
        self.relation_heads = self.heads or num_heads(student)
        for name, config in (("student", student), ("teacher", teacher)):
            width = num_heads(config) * head_shape(config)[2]
            if width % self.relation_heads:
                raise ValueError(
                    f"heads: {self.relation_heads} relation heads do not divide the {name}'s width of {width}"
                )

    def distance(self, student: Attention, teacher: Attention, valid: Tensor) -> Tensor:
        terms = []
        for relation in self.relations:
            scores = [relation_scores(*_vectors(a, relation), self.relation_heads) for a in (student, teacher)]
            terms.append(attention_kl(*scores, visible_pairs(student, valid)).sum())
        return torch.stack(terms).sum()


def _vectors(attention: Attention, relation: Relation) -> tuple[Tensor, Tensor]:
    vectors = {"q": attention.query, "k": attention.repeated_key(), "v": attention.repeated_value()}
    return vectors[relation[0]], vectors[relation[1]]
