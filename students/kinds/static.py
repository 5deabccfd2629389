"""Static students: a mean of token embeddings and a small head, started from the teacher's vector of each token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from students.forms.compatibility import check_forms
from students.forms.form import check_sizes
from students.kinds.dropout import check_dropout
from students.kinds.student import Student, set_task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from students.loading.auto_class import AutoClass

SIF = 1e-3
"""``a`` in the weight ``a / (a + p)`` of a token of frequency p (Arora et al. 2017), within the range of the paper."""
CHUNK = 512
"""How many tokens the teacher reads at once."""


@dataclass(kw_only=True)
class Static(Student):
    """The mean of token embeddings and a small head (fastText, Joulin et al. 2016, arXiv 1607.01759; Model2Vec).

    With ``weights: teacher`` the embedding of a token starts as what the teacher makes of that token alone: its last
    hidden state, projected to the principal components of all of them. It is multiplied by the weight
    ``1e-3 / (1e-3 + p)`` of the token's frequency p in 16 batches of training (SIF, Arora et al. 2017). The head starts
    at random.

    Args:
        width: of the embeddings, at most that of the teacher's hidden states if these are their start.
        hidden: number of ReLU neurons in the head; 0 for a linear one.
        dropout: probability with which dimensions are dropped in training.
        weights: whether embeddings start from the teacher or at random.

    Raises:
        ValueError: if a field is wrong for every teacher.
    """

    width: int = 256
    hidden: int = 256
    dropout: float = 0.1
    weights: Literal["teacher", "random"] = "teacher"

    def __post_init__(self) -> None:
        check_sizes(self, "width")
        if self.hidden < 0:
            raise ValueError(f"hidden: at least 0 is needed, not {self.hidden}")
        check_dropout(self.dropout)
        if self.weights not in ("teacher", "random"):
            raise ValueError(f"weights: 'teacher' or 'random', not {self.weights!r}")

    def check(self, teacher: PretrainedConfig | None) -> None:
        if teacher is None:
            raise ValueError("a Static student has its teacher's vocabulary: name a teacher, or a model")
        from students.models.static_models import StaticConfig  # not above: a config is read without transformers

        check_forms(self.forms, StaticConfig())
        if self.weights == "teacher" and self.width > teacher.hidden_size:
            raise ValueError(
                f"width: the teacher's states are {teacher.hidden_size} wide, not {self.width}; "
                "wider embeddings need weights: random"
            )

    def build_base(
        self,
        teacher: PreTrainedModel | None,
        id2label: dict[int, str] | None,
        problem_type: str | None,
        head: AutoClass | None,
    ) -> PreTrainedModel:
        from transformers import AutoModelForSequenceClassification  # not above: it takes seconds

        from students.models.static_models import StaticConfig

        head = head or AutoModelForSequenceClassification
        self.check(None if teacher is None else teacher.config)
        if StaticConfig not in head._model_mapping:
            raise ValueError(f"kind: of a Static student there is no {head.__name__.removeprefix('AutoModelFor')}")
        config = StaticConfig(
            vocab_size=teacher.config.vocab_size,
            embedding_size=self.width,
            units=self.hidden,
            dropout=self.dropout,
            id2label=teacher.config.id2label,
            label2id=teacher.config.label2id,
            **{name: getattr(teacher.config, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")},
        )
        set_task(config, id2label, problem_type)
        student = head.from_config(config, dtype=torch.float32)
        if self.weights == "teacher":
            vectors = principal_components(token_vectors(teacher), self.width)
            with torch.no_grad():
                student.get_input_embeddings().weight.copy_(vectors)
        return student

    @torch.no_grad()
    def adapt(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]]) -> None:
        if self.weights == "random":
            return
        counts = torch.zeros(student.config.vocab_size, dtype=torch.long)
        for batch in batches:
            tokens = batch["input_ids"][batch["attention_mask"].bool()].cpu()
            counts += tokens.bincount(minlength=len(counts))
        table = student.get_input_embeddings().weight
        table.mul_(frequency_weights(counts)[:, None].to(table))


@torch.no_grad()
def token_vectors(model: PreTrainedModel) -> Tensor:
    """Return what a model makes of each token alone, its last state or vector, as float32 [vocabulary, width]."""
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    ids = torch.arange(model.config.vocab_size, device=next(encoder.parameters()).device)[:, None]
    chunks = [encoder(input_ids=chunk, attention_mask=torch.ones_like(chunk))[0] for chunk in ids.split(CHUNK)]
    return torch.cat([chunk.float().reshape(len(chunk), -1) for chunk in chunks])


def principal_components(vectors: Tensor, width: int) -> Tensor:
    """Return vectors [V, E] less their mean in the ``width`` directions of the largest variance, [V, width].

    The sign of a direction is that with which its largest entry is positive.
    """
    centred = vectors.double() - vectors.double().mean(0)
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :width]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return (centred @ (directions * largest.sign())).to(vectors.dtype)


def frequency_weights(counts: Tensor) -> Tensor:
    """Return the weight ``SIF / (SIF + p)`` of each token, from the counts of all; 1 for tokens that do not occur."""
    return SIF / (SIF + counts.double() / counts.sum().clamp(min=1))
