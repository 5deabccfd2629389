"""Compressed token embeddings, initialized from the full matrix."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from students.forms.form import Form
from students.forms.low_rank import RankRule
from students.saved_classes import find_class
from students.structure.tensor_train import set_tensor_train, tensor_train_shape, tensor_train_svd
from students.weights import raw_parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(kw_only=True)
class Embeddings(Form):
    """Compressed token embeddings."""

    not_after = ("embeddings", "ranks")


@dataclass(kw_only=True)
class EmbeddingModule(Embeddings):
    """Token embeddings in another module; ``apply`` writes ``{"kind": name of the class, ...}`` into the config."""

    key = "embeddings"

    @classmethod
    @abstractmethod
    def rebuild(cls, model: PreTrainedModel, saved: dict[str, Any]) -> None:
        """Replace the token embeddings of a model, in place, before weights are loaded.

        Args:
            model: its inner model may have the new embeddings already.
            saved: the entry that ``apply`` wrote into the config.
        """


def set_embeddings(model: PreTrainedModel, saved: dict[str, Any]) -> None:
    """Replace the token embeddings of a model as its config describes, in place, before weights are loaded.

    Raises:
        ValueError: if their class is not known.
    """
    kind = find_class(EmbeddingModule, str(saved.get("kind")))
    if kind is None:
        raise ValueError(f"embeddings: {saved.get('kind')!r} is not known; import the module that defines it first")
    kind.rebuild(model, saved)


@dataclass(kw_only=True)
class TensorTrain(EmbeddingModule):
    """Token embeddings as a tensor train of three small embeddings (Khrulkov et al. 2019, arXiv 1901.10787).

    They are initialized from the student's matrix, truncated to the rank.

    Args:
        rank: of the two products.
    """

    rank: int = 64

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank: at least 1 is needed, not {self.rank}")

    def apply(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]], is_trained: bool) -> None:
        matrix = raw_parameter(student.get_input_embeddings()).detach()
        vocab_size, width = matrix.shape
        shape = tensor_train_shape(vocab_size, width, self.rank)
        cores = tensor_train_svd(matrix, shape)
        if sum(core.numel() for core in cores) >= matrix.numel():
            raise ValueError(f"rank: {self.rank} makes the token embeddings no smaller")
        student.config.embeddings = {"kind": type(self).__name__} | shape
        set_tensor_train(student, shape)
        with torch.no_grad():
            for weight, core in zip(student.get_input_embeddings().parameters(), cores, strict=True):
                weight.copy_(core)

    @classmethod
    def rebuild(cls, model: PreTrainedModel, saved: dict[str, Any]) -> None:
        set_tensor_train(model, {name: sizes for name, sizes in saved.items() if name != "kind"})


@dataclass(kw_only=True)
class Factorised(RankRule, Embeddings):
    """Low-rank embeddings E = A B, [tokens, rank] and [rank, hidden] (ALBERT, Lan et al. 2019, arXiv 1909.11942).

    Position embeddings are factorised, too. The factors are initialized by the truncated singular value decomposition
    of the student's matrix. Token embeddings that are tied to the LM head share A with it, and have a factor B each.
    """

    key = "ranks"

    def apply(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]], is_trained: bool) -> None:
        self.factor(student, ["embeddings"])
