"""A student whose table of words is a tensor train, started from the teacher's table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from students.kinds.transformer import Transformer
from students.structure.table import form_of, set_table, train_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class TensorTrain(Transformer):
    """A Transformer student whose table of words is a product of three small ones (TT-embedding: Khrulkov et al. 2019,
    arXiv 1901.10787), many times smaller. It starts as the table that the student would have had, cut to the rank.

    Args:
        rank: of the two products.
    """

    rank: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ValueError(f"rank: at least 1 is needed, not {self.rank}")

    def alter(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]]) -> None:
        table = student.get_input_embeddings().weight.detach()
        form = form_of(*table.shape, self.rank)
        cores = train_of(table, form)
        if sum(core.numel() for core in cores) >= table.numel():
            raise ValueError(f"rank: {self.rank} makes the table of words no smaller")
        from students.compact.models import become_compact  # not above: a config is read without transformers

        become_compact(student)
        student.config.tensor_train = form
        set_table(student, form)
        with torch.no_grad():
            for core, numbers in zip(student.get_input_embeddings().cores, cores, strict=True):
                core.weight.copy_(numbers)
