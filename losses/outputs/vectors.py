"""Losses on the vectors that two text encoders give of the same text."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.loss import LossValues, matmul_float32
from losses.outputs.divergences import kl
from losses.outputs.logits import LogitsLoss
from losses.states.hidden import hidden_cosine, hidden_mse
from students.recording.signals import Signals

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def similarity_kl(student: Tensor, teacher: Tensor, temperature: float = 0.05) -> Tensor:
    """Return ``KL(p_T, p_S)`` of each text, [N], with ``p(j | i) = softmax over j ≠ i of cos(v_i, v_j) / T``.

    The vectors are [N, D] of the same texts, and their widths may differ. Fewer than three texts have no distribution:
    then it is 0.
    """
    if len(student) < 3:
        return student.float().sum(-1) * 0.0
    others = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
    log_q, log_p = (_cosines(vectors)[others].view(len(vectors), -1) / temperature for vectors in (student, teacher))
    return kl(log_p.log_softmax(-1), log_q.log_softmax(-1))


def _cosines(vectors: Tensor) -> Tensor:
    """Return the cosines of vectors [N, D] with one another, [N, N], in float32."""
    unit = F.normalize(vectors.float(), dim=-1)
    return matmul_float32(unit, unit.T)


@dataclass(kw_only=True, eq=False)
class VectorLoss(LogitsLoss):
    """The base class of losses that compare the student's vector of a text with the teacher's.

    Args:
        dims: compare only the first numbers of the student's vectors, once for each of these widths, and average: the
            vectors can then be cut to any of them (Kusupati et al. 2022, Matryoshka, arXiv 2205.13147). By default the
            whole vectors.
    """

    reads_predictions: ClassVar[bool] = False
    compares_vectors: ClassVar[bool] = True

    dims: list[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dims is not None and (not self.dims or len(set(self.dims)) < len(self.dims) or min(self.dims) < 1):
            raise ValueError(f"dims: different widths of at least 1, not {self.dims}")

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the vectors of both models.

        Raises:
            ValueError: if there is no teacher, or ``dims`` has a width that the student's vectors do not reach.
        """
        if teacher is None:
            raise ValueError("the loss compares with a teacher, and the run has none")
        if self.dims and max(self.dims) > student.hidden_size:
            raise ValueError(f"dims: the student's vectors have {student.hidden_size} numbers, not {max(self.dims)}")
        self.widths: Sequence[int] = self.dims or [student.hidden_size]
        self.student_signals = self.teacher_signals = Signals(logits=True)

    def distance(self, student: Tensor, teacher: Tensor, labels: Tensor | None, values: LossValues) -> Tensor:
        parts = [self.vector_distance(student[:, :width], teacher, str(width)) for width in self.widths]
        return torch.stack(parts).mean(0)

    @abstractmethod
    def vector_distance(self, student: Tensor, teacher: Tensor, width: str) -> Tensor:
        """Return the loss of each text, [N], from the first numbers of the student's vectors and the teacher's."""


@dataclass(kw_only=True, eq=False)
class ProjectedVectorLoss(VectorLoss):
    """The base class of losses that need vectors of equal widths.

    Args:
        project: learn a linear projection from the student's vectors to the teacher's even if the widths are equal. It
            is not deployed: with one, the student's vectors can only be compared with one another.
    """

    project: bool = False

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        super().setup(student, teacher)
        target = teacher.hidden_size if teacher else 0
        self.projections = nn.ModuleDict(
            {
                str(width): nn.Linear(width, target) if self.project or width != target else nn.Identity()
                for width in self.widths
            }
        )

    def vector_distance(self, student: Tensor, teacher: Tensor, width: str) -> Tensor:
        return self.projected_distance(self.projections[width](student.float()), teacher.float())

    @abstractmethod
    def projected_distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of each text, [N], from vectors [N, D] in float32."""


@dataclass(kw_only=True, eq=False)
class VectorMSE(ProjectedVectorLoss):
    """The squared distance of the vectors (Reimers and Gurevych 2020, arXiv 2004.09813): ``|v_S - v_T|^2``.

    Args:
        project: as in the base class.
    """

    def projected_distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        return hidden_mse(student, teacher) * teacher.shape[-1]


@dataclass(kw_only=True, eq=False)
class VectorCosine(ProjectedVectorLoss):
    """``1 - cos(v_S, v_T)``: the direction of the vectors alone.

    Args:
        project: as in the base class.
    """

    def projected_distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        return hidden_cosine(student, teacher)


@dataclass(kw_only=True, eq=False)
class SimilarityKL(VectorLoss):
    """KL of the similarities of each text to the others of a batch, as a distribution over them (as SEED's, Fang et al.
    2021, arXiv 2101.04731): it needs no projection, whatever the widths.

    It depends on how rows are batched; larger batches have more texts to compare. Of several processes each compares
    its own.

    Args:
        temperature: by which the cosines are divided; small ones look at the nearest texts.
    """

    compares_examples: ClassVar[bool] = True

    temperature: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: must be a number above 0, not {self.temperature}")

    def vector_distance(self, student: Tensor, teacher: Tensor, width: str) -> Tensor:
        return similarity_kl(student, teacher, self.temperature)
