"""Blocks that share layers (ALBERT), initialized from the mean of the blocks that share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.families import blocks, depth, family
from students.families.parts import LayerStack
from students.forms.form import Form
from students.structure.sharing import SharedModules, share_layers, shared_module_paths

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class ShareLayers(Form):
    """Blocks that run the same layers (ALBERT, Lan et al. 2019, arXiv 1909.11942).

    The student stays as deep as its base: it has fewer parameters, but the same FLOPs. The blocks of a group are
    consecutive. Shared layers are initialized from the mean of the group; layers that are not shared stay.

    Args:
        shared_modules: ``all`` is whole blocks with their norms; ``attention`` and ``ffn`` are their linear layers.
        groups: number of groups; in each of the two stacks of T5.
        keep_ends: whether the first and the last block share with no other block (Subformer, Reid et al. 2021, arXiv
            2101.00234).
    """

    key = "share_layers"
    not_after = ("share_layers", "ranks")  # the mean of factors is not that of their products
    shares_layers = True

    shared_modules: SharedModules = "all"
    groups: int = 1
    keep_ends: bool = False

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"groups: at least 1 is needed, not {self.groups}")

    def check(self, student: PretrainedConfig) -> None:
        for name in family(student).stacks:
            count = depth(student, name) - 2 * self.keep_ends
            if self.groups >= count:
                ends = " between the ends" if self.keep_ends else ""
                raise ValueError(
                    f"groups: {self.groups} groups of the {max(count, 0)} blocks{ends} share nothing; "
                    "there must be fewer"
                )

    def apply(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]], is_trained: bool) -> None:
        stacks = family(student.config).stacks
        sources = {name: self._sources(depth(student.config, name)) for name in stacks}
        student.config.share_layers = {"shared_modules": self.shared_modules, "blocks": sources}
        if is_trained:
            for name, stack in stacks.items():
                self._average(stack, blocks(student, name), sources[name])
        share_layers(student, student.config.share_layers)

    def _sources(self, count: int) -> list[int]:
        """Return for each block the index of the first block of its group, from 0."""
        ends = int(self.keep_ends)
        inner = count - 2 * ends
        groups = [-1] * ends + [i * self.groups // inner for i in range(inner)] + [self.groups] * ends
        return [groups.index(group) for group in groups]

    @torch.no_grad()
    def _average(self, stack: LayerStack, stack_blocks: list[nn.Module], sources: list[int]) -> None:
        """Set the layers of the first block of each group, which stay, to the mean of the group."""
        for source in set(sources):
            group = [block for block, other in zip(stack_blocks, sources, strict=True) if other == source]
            for path in shared_module_paths(
                stack, group[-1], self.shared_modules
            ):  # not the first: T5's has a position bias, too
                layers = [dict(block.get_submodule(path).named_parameters()) for block in group]
                for key, parameter in layers[0].items():
                    parameter.copy_(torch.stack([layer[key] for layer in layers]).mean(dim=0))
