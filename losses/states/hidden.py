"""Losses on single hidden states."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.loss import LossValues
from losses.pairing import LayerLoss, StateLayers
from students.families.families import find_stack, hidden_width, is_causal
from students.recording.batch import Batch
from students.recording.signals import Trace

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Pooling = Literal["tokens", "first", "mean"]
"""Each token that is not padding; the first token of each example; or the mean of an example's tokens."""


def hidden_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared error [...], averaged over the last dimension of [..., H], in float32."""
    return (student.float() - teacher.float()).square().mean(-1)


def hidden_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ``1 - cos(h_S, h_T)`` [...] of states [..., H], in float32."""
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)


def patient_hidden(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ``| h_S/|h_S| - h_T/|h_T| |^2`` [...] of states [..., H], in float32; twice ``hidden_cosine``."""
    return (F.normalize(student.float(), dim=-1) - F.normalize(teacher.float(), dim=-1)).square().sum(-1)


def feature_map(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared error [...] of states [..., H] after normalisation to mean 0 and variance 1, in float32."""
    return hidden_mse(*(F.layer_norm(state.float(), state.shape[-1:]) for state in (student, teacher)))


def feature_statistics(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ``(mean_S - mean_T)^2 + |var_S - var_T|`` [...], over the last dimension of [..., H], in float32."""
    means = [state.float().mean(-1) for state in (student, teacher)]
    variances = [state.float().var(-1, correction=0) for state in (student, teacher)]
    return (means[0] - means[1]).square() + (variances[0] - variances[1]).abs()


@dataclass(kw_only=True, eq=False)
class ProjectedLoss(LayerLoss):
    """The base class of losses that need equal widths; layer 0 is the input of the first block.

    Args:
        project: learn a linear projection from the student's states to the teacher's even if the widths are equal.
    """

    signal = "hidden"

    project: bool = False

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the layers that are compared, and create a projection for each of the student's if needed.

        Raises:
            ValueError: if there is no teacher, or a layer lies outside its model.
        """
        super().setup(student, teacher)
        # Layer 0 may have another width; rules pair it with layer 0 only.
        widths = {str(s): (hidden_width(student, s), hidden_width(teacher, t)) for s, t in self.pairing.pairs}
        needed = self.project or any(student_width != teacher_width for student_width, teacher_width in widths.values())
        self.projections = nn.ModuleDict(
            {layer: nn.Linear(*both) if needed else nn.Identity() for layer, both in widths.items()}
        )


@dataclass(kw_only=True, eq=False)
class HiddenLoss(ProjectedLoss):
    """The base class of losses on single states.

    Args:
        pooling: the states of a layer that are compared: all ``tokens``, the ``first`` one, or their ``mean``.
    """

    layers: StateLayers = "uniform"
    pooling: Pooling = "tokens"

    @property
    def compares_tokens(self) -> bool:
        return self.pooling == "tokens"

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Request the layers that are compared.

        Raises:
            ValueError: if ``pooling`` is the first token of a decoder, which attends to no other.
        """
        super().setup(student, teacher)
        check_pooling(self.pooling, self.stack, student, teacher)

    def count(self, batch: Batch) -> Tensor:
        """Return the number of tokens that are not padding, or of examples."""
        valid = self.valid(batch)
        return valid.sum() if self.pooling == "tokens" else valid.new_tensor(len(valid), dtype=torch.long)

    @staticmethod
    @abstractmethod
    def distance(student: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance of two states, [...] from [..., H]."""

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Return the sum over the positions and the layer pairs, and the number of positions."""
        valid, (student_stack, teacher_stack) = self.valid(batch), self.stacks
        pairing, teacher_valid = self.pairing.at(values.epoch), self.teacher_valid(teacher, batch)
        states = {
            s: self.projections[str(s)](pool(student.hidden[student_stack, s].float(), valid, self.pooling))
            for s in pairing.student_layers
        }
        targets = {
            t: pool(teacher.hidden[teacher_stack, t].float(), teacher_valid, self.pooling)
            for t in pairing.teacher_layers
        }
        if self.layers == "mixture":
            all_targets = torch.stack(list(targets.values()))
            total = sum(self.distance(state, attention_mixture(state, all_targets)).sum() for state in states.values())
        else:
            total = pairing.total(lambda s, t: self.distance(states[s], targets[t]).sum())
        return total, self.count(batch)


def check_pooling(pooling: Pooling, stack: str | None, *models: PretrainedConfig) -> None:
    """Raise ValueError if the first token of a decoder is to represent its text."""
    if pooling == "first" and any(is_causal(config, find_stack(config, stack)[0]) for config in models):
        raise ValueError("pooling: the first token of a decoder attends to no other; use mean or tokens")


def attention_mixture(state: Tensor, targets: Tensor) -> Tensor:
    """Return ``sum_t a_t h_t`` [N, H] with ``a = softmax_t(h_S . h_t)``, from states [N, H] and [T, N, H]."""
    return ((state * targets).sum(-1, keepdim=True).softmax(0) * targets).sum(0)


def pool(states: Tensor, valid: Tensor, pooling: Pooling) -> Tensor:
    """Pool states [B, S, H] to [N, H]; states at padding are ignored, whatever their values."""
    if pooling == "first":
        return states[:, 0]
    if pooling == "tokens":
        # twice as fast as states[valid], in forward and backward
        return states.flatten(0, 1).index_select(0, valid.flatten().nonzero().squeeze(1))
    return torch.where(valid[..., None], states, 0.0).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


@dataclass(kw_only=True, eq=False)
class HiddenMSE(HiddenLoss):
    """Squared error of hidden states (FitNets, arXiv 1412.6550; TinyBERT, arXiv 1909.10351)."""

    distance = staticmethod(hidden_mse)


@dataclass(kw_only=True, eq=False)
class HiddenCosine(HiddenLoss):
    """One minus the cosine of hidden states (DistilBERT, Sanh et al. 2019, arXiv 1910.01108)."""

    layers: StateLayers = "top"
    distance = staticmethod(hidden_cosine)


@dataclass(kw_only=True, eq=False)
class PatientHidden(HiddenLoss):
    """Squared distance of normalised states of the first token (PKD, Sun et al. 2019, arXiv 1908.09355).

    For decoders, whose first token attends to no other, set ``pooling: mean`` or ``tokens``.

    With ``layers: random, pooling: mean`` it is RAIL-KD (Haidar et al. 2021, arXiv 2109.10164).
    """

    layers: StateLayers = "skip"
    pooling: Pooling = "first"
    distance = staticmethod(patient_hidden)


@dataclass(kw_only=True, eq=False)
class FeatureMap(HiddenLoss):
    """Squared error of states normalised as by a layer norm (MobileBERT, Sun et al. 2020, arXiv 2004.02984)."""

    distance = staticmethod(feature_map)


@dataclass(kw_only=True, eq=False)
class FeatureStatistics(HiddenLoss):
    """Errors of mean and variance of the states, which ``FeatureMap`` ignores (MobileBERT, Sun et al. 2020, arXiv
    2004.02984).
    """

    distance = staticmethod(feature_statistics)
