"""Recurrent students: networks of RNN, GRU or LSTM cells that read the words of a teacher of any family."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from students.forms.compatibility import check_forms
from students.forms.form import check_sizes
from students.kinds.student import Student, check_dropout, set_task
from students.structure.tensor_train import embedding_matrix

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class _Recurrent(Student):
    """A recurrent network with the vocabulary and the task of the teacher.

    A text is classified by what each direction knows at its end and a layer of rectifiers (BiLSTM of Tang et al. 2019,
    arXiv 1903.12136). With ``weights: teacher`` its embeddings start as the teacher's table of words; narrower ones as
    the table's truncated singular value decomposition, which keeps the products of words best. Cells start at random.

    Args:
        hidden: number of cells in each direction of a layer.
        layers: number of layers.
        bidirectional: whether a layer reads the text from both ends; not given, wherever the task allows it.
        embedding: width of the embeddings; not given, that of the teacher's.
        dropout: the share of embeddings and states that is left out in training.
        weights: where the embeddings start.

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
                f"embedding: the teacher's words are {width} wide, not {self.embedding}; wider needs weights: random"
            )

    def build(
        self,
        teacher: PreTrainedModel | None,
        labels: dict[int, str] | None,
        problem: str | None,
        head: type | None = None,
        batches: Iterable[dict[str, Tensor]] = (),
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
        table = embedding_matrix(teacher)
        ahead_only = head is AutoModelForCausalLM
        config = RecurrentConfig(
            vocab_size=len(table),
            cell=self.cell,
            embedding_size=self.embedding or table.shape[1],
            units=self.hidden,
            num_hidden_layers=self.layers,
            bidirectional=not ahead_only if self.bidirectional is None else self.bidirectional,
            projection_size=getattr(self, "projection", None),
            dropout=self.dropout,
            id2label=teacher.config.id2label,
            label2id=teacher.config.label2id,
            **{name: getattr(teacher.config, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")},
        )
        set_task(config, labels, problem)
        student = head.from_config(config, dtype=torch.float32)
        if self.weights == "teacher":
            with torch.no_grad():
                student.get_input_embeddings().weight.copy_(reduce_embedding_width(table, config.embedding_size))
        return student.train()


def reduce_embedding_width(table: Tensor, width: int) -> Tensor:
    """The rows [V, E] of a table by their coordinates along its ``width`` strongest directions, [V, width]: of all of
    that width those whose inner products are nearest to the table's; the table itself if it is no wider.
    """
    if table.shape[1] <= width:
        return table
    values = table.double()
    directions = torch.linalg.eigh(values.T @ values).eigenvectors.flip(1)[:, :width]
    # Which way a direction points is the solver's whim.
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return (values @ (directions * largest.sign())).to(table.dtype)


@dataclass(kw_only=True)
class RNN(_Recurrent):
    """A network of plain cells, the hyperbolic tangent of what they read and what they were (Elman 1990)."""

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
