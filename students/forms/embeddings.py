"""Token embeddings in a smaller form, started from the whole matrix."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from students.forms.form import Form, find_class
from students.forms.low_rank import RankRule
from students.structure.tensor_train import set_tensor_train, tensor_train_shape, tensor_train_svd

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Embeddings(Form):
    """The form of the token embeddings."""

    not_after = ("embeddings", "ranks")


@dataclass(kw_only=True)
class EmbeddingModule(Embeddings):
    """Token embeddings that another module computes: ``apply`` writes ``{"kind": name of the class, ...}``."""

    key = "embeddings"

    @classmethod
    @abstractmethod
    def rebuild(cls, model: PreTrainedModel, saved: dict[str, Any]) -> None:
        """Bring a model to this form, in place, before weights are loaded.

        Args:
            model: any model, or one whose inner model has the form already.
            saved: what ``apply`` wrote into the config.
        """


def set_embeddings(model: PreTrainedModel, saved: dict[str, Any]) -> None:
    """Bring a model to the embeddings that its config describes, in place, before weights are loaded.

    Raises:
        ValueError: if their class is not known.
    """
    kind = find_class(EmbeddingModule, str(saved.get("kind")))
    if kind is None:
        raise ValueError(f"embeddings: {saved.get('kind')!r} is not known; import the module that defines it first")
    kind.rebuild(model, saved)


@dataclass(kw_only=True)
class TensorTrain(EmbeddingModule):
    """Token embeddings as a product of three small tables (TT-embedding: Khrulkov et al. 2019, arXiv 1901.10787), many
    times smaller. They start as the matrix that the student would have had, cut to the rank.

    Args:
        rank: of the two products.
    """

    rank: int = 64

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank: at least 1 is needed, not {self.rank}")

    def apply(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]], is_trained: bool) -> None:
        table = student.get_input_embeddings().weight.detach()
        sizes = tensor_train_shape(*table.shape, self.rank)
        cores = tensor_train_svd(table, sizes)
        if sum(core.numel() for core in cores) >= table.numel():
            raise ValueError(f"rank: {self.rank} makes the token embeddings no smaller")
        student.config.embeddings = {"kind": type(self).__name__} | sizes
        set_tensor_train(student, sizes)
        with torch.no_grad():
            for core, numbers in zip(student.get_input_embeddings().cores, cores, strict=True):
                core.weight.copy_(numbers)

    @classmethod
    def rebuild(cls, model: PreTrainedModel, saved: dict[str, Any]) -> None:
        set_tensor_train(model, {name: sizes for name, sizes in saved.items() if name != "kind"})


@dataclass(kw_only=True)
class Factorised(RankRule, Embeddings):
    """Embeddings E = A B, [tokens, rank] and [rank, hidden], those of positions as well (ALBERT, Lan et al. 2019, arXiv
    1909.11942). They start as the truncated singular value decomposition of the matrix that the student would have had.

    Token embeddings that are the head as well keep one matrix A, and have a thin layer each.
    """

    key = "ranks"

    def apply(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]], is_trained: bool) -> None:
        self.factor(student, ["embeddings"])
