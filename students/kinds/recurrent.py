"""Recurrent students: RNN, GRU or LSTM networks with the vocabulary of a teacher of any family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from students.forms.compatibility import check_forms
from students.forms.form import check_sizes
from students.kinds.dropout import check_dropout
from students.kinds.student import Student, set_task
from students.structure.tensor_train import embedding_matrix

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from students.loading.auto_class import AutoClass


@dataclass(kw_only=True)
class _Recurrent(Student):
    """A recurrent network with the vocabulary and the task of the teacher.

    A text is classified from the final state of each direction through a ReLU layer (BiLSTM of Tang et al. 2019, arXiv
    1903.12136). With ``weights: teacher`` its embeddings are initialized from the teacher's; narrower ones from their
    truncated singular value decomposition, which best keeps the inner products of tokens. Cells are initialized at
    random.

    Args:
        hidden: number of cells in each direction of a layer.
        layers: number of layers.
        bidirectional: whether layers have a backward direction; by default wherever the task allows it.
        embedding: width of the embeddings; by default that of the teacher's.
        dropout: probability with which embeddings and states are dropped in training.
        weights: whether embeddings are initialized from the teacher or at random.

    Raises:
        ValueError: if a field is wrong for every teacher.
    """

    cell: ClassVar[str]

    hidden: int = 256
    layers: int = 1
    bidirectional: bool | None = None
    embedding: int | None = None
    dropout: float = 0.1
    weights: Literal["teacher", "random"] = "teacher"

    def __post_init__(self) -> None:
        check_sizes(self, "hidden", "layers", "embedding")
        check_dropout(self.dropout)
        if self.weights not in ("teacher", "random"):
            raise ValueError(f"weights: 'teacher' or 'random', not {self.weights!r}")

    def check(self, teacher: PretrainedConfig | None) -> None:
        if teacher is None:
            raise ValueError(f"a {self.cell.upper()} student has its teacher's vocabulary: name a teacher, or a model")
        from students.models.recurrent_models import RecurrentConfig  # not above: a config is read without transformers

        check_forms(self.forms, RecurrentConfig(cell=self.cell))
        width = getattr(teacher, "embedding_size", None) or teacher.hidden_size
        if self.weights == "teacher" and self.embedding and self.embedding > width:
            raise ValueError(
                f"embedding: the teacher's embeddings are {width} wide, not {self.embedding}; "
                "wider ones need weights: random"
            )

    def build_base(
        self,
        teacher: PreTrainedModel | None,
        id2label: dict[int, str] | None,
        problem_type: str | None,
        head: AutoClass | None,
    ) -> PreTrainedModel:
        from transformers import (  # not above: they take seconds
            AutoModelForCausalLM,
            AutoModelForSequenceClassification,
        )

        from students.models.recurrent_models import RecurrentConfig

        head = head or AutoModelForSequenceClassification
        self.check(None if teacher is None else teacher.config)
        if RecurrentConfig not in head._model_mapping:
            raise ValueError(f"kind: of a {self.cell.upper()} there is no {head.__name__.removeprefix('AutoModelFor')}")
        embeddings = embedding_matrix(teacher)
        is_causal = head is AutoModelForCausalLM
        config = RecurrentConfig(
            vocab_size=len(embeddings),
            cell=self.cell,
            embedding_size=self.embedding or embeddings.shape[1],
            units=self.hidden,
            num_hidden_layers=self.layers,
            bidirectional=not is_causal if self.bidirectional is None else self.bidirectional,
            projection_size=getattr(self, "projection", None),
            dropout=self.dropout,
            id2label=teacher.config.id2label,
            label2id=teacher.config.label2id,
            **{name: getattr(teacher.config, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")},
        )
        set_task(config, id2label, problem_type)
        student = head.from_config(config, dtype=torch.float32)
        if self.weights == "teacher":
            with torch.no_grad():
                student.get_input_embeddings().weight.copy_(reduce_embedding_width(embeddings, config.embedding_size))
        return student


def reduce_embedding_width(embeddings: Tensor, width: int) -> Tensor:
    """Project embeddings [V, E] to their ``width`` strongest directions, [V, width].

    Of all embeddings of that width these have the inner products nearest to the original ones. Embeddings that are no
    wider are returned unchanged.
    """
    if embeddings.shape[1] <= width:
        return embeddings
    embeddings_64 = embeddings.double()
    directions = torch.linalg.eigh(embeddings_64.T @ embeddings_64).eigenvectors.flip(1)[:, :width]
    # The sign of an eigenvector depends on the solver.
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return (embeddings_64 @ (directions * largest.sign())).to(embeddings.dtype)


@dataclass(kw_only=True)
class RNN(_Recurrent):
    """A network of plain tanh cells (Elman 1990)."""

    cell = "rnn"


@dataclass(kw_only=True)
class GRU(_Recurrent):
    """A network of gated recurrent units (Cho et al. 2014, arXiv 1406.1078)."""

    cell = "gru"


@dataclass(kw_only=True)
class LSTM(_Recurrent):
    """A network of long short-term memory cells (Hochreiter and Schmidhuber 1997).

    Args:
        projection: width to which the states of a direction are projected (Sak et al. 2014, arXiv 1402.1128).
    """

    cell = "lstm"

    projection: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projection is not None and not 1 <= self.projection < self.hidden:
            raise ValueError(f"projection: from 1 to below the {self.hidden} cells, not {self.projection}")
