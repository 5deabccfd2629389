"""A student whose blocks share layers (ALBERT), started from the teacher's blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from students.families.families import Stack, blocks, depth, family
from students.kinds.transformer import Transformer
from students.structure.inherit import repeats
from students.structure.sharing import parts, share

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class Shared(Transformer):
    """A Transformer student whose blocks run the same layers (ALBERT, Lan et al. 2019, arXiv 1909.11942).

    It is as deep as it says: parameters and bytes fall, the work does not. The blocks of a group are consecutive. What
    they share starts from the mean of the teacher's, and what is their own each from its block.

    Args:
        share: ``all`` is whole blocks, norms included; ``attention`` and ``ffn`` are the linear layers of these.
        groups: how many sets of layers there are; in each of the two stacks of T5.
        keep_ends: whether the first and the last block have layers of their own, beside the groups (Subformer, Reid et
            al. 2021, arXiv 2101.00234).
    """

    share: Literal["all", "attention", "ffn"] = "all"
    groups: int = 1
    keep_ends: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups < 1:
            raise ValueError(f"groups: at least 1 is needed, not {self.groups}")

    def check(self, teacher: PretrainedConfig | None) -> None:
        super().check(teacher)
        config = self._config(teacher)
        for name in family(config).stacks:
            count = depth(config, name)
            left = count - 2 * self.keep_ends
            if self.groups >= left:
                ends = " between the ends" if self.keep_ends else ""
                raise ValueError(
                    f"groups: {self.groups} sets of layers for the {max(left, 0)} blocks{ends} share nothing; "
                    "there must be fewer"
                )

    def alter(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]]) -> None:
        if repeats(student):
            raise ValueError(f"kind: a {student.config.model_type} shares its blocks already, also as a Transformer")
        from students.compact.models import become_compact  # not above: a config is read without transformers

        become_compact(student)
        stacks = family(student.config).stacks
        sources = {name: self._sources(depth(student.config, name)) for name in stacks}
        student.config.shared = {"share": self.share, "blocks": sources}
        if self.weights == "teacher":
            for name, stack in stacks.items():
                self._average(stack, blocks(student, name), sources[name])
        share(student, student.config.shared)

    def _sources(self, count: int) -> list[int]:
        """For each block the first one of its group, from 0."""
        ends = int(self.keep_ends)
        left = count - 2 * ends
        group = [-1] * ends + [i * self.groups // left for i in range(left)] + [self.groups] * ends
        return [group.index(number) for number in group]

    @torch.no_grad()
    def _average(self, stack: Stack, own: list[nn.Module], sources: list[int]) -> None:
        """Give the first block of each group, whose layers stay, the mean of all of them."""
        for source in set(sources):
            group = [block for block, number in zip(own, sources, strict=True) if number == source]
            for path in parts(stack, group[-1], self.share):  # the first of T5 has a position bias besides
                same = [dict(block.get_submodule(path).named_parameters()) for block in group]
                for key, parameter in same[0].items():
                    parameter.copy_(torch.stack([each[key] for each in same]).mean(dim=0))
