"""The student's hidden states against the teacher's."""

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
"""Each token that is not padding; the first of each example; or the mean of an example's tokens."""


def hidden_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error [...], mean over the last dimension of [..., H], in float32."""
    return (student.float() - teacher.float()).square().mean(-1)


def hidden_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """``1 - cos(h_S, h_T)`` [...] of states [..., H], in float32."""
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)


def patient_hidden(student: Tensor, teacher: Tensor) -> Tensor:
    """``| h_S/|h_S| - h_T/|h_T| |^2`` [...] of states [..., H], in float32; twice ``hidden_cosine``."""
    return (F.normalize(student.float(), dim=-1) - F.normalize(teacher.float(), dim=-1)).square().sum(-1)


def feature_map(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error [...] of states [..., H] brought to mean 0 and variance 1 each, mean over H, in float32."""
    return hidden_mse(*(F.layer_norm(state.float(), state.shape[-1:]) for state in (student, teacher)))


def feature_statistics(student: Tensor, teacher: Tensor) -> Tensor:
    """``(mean_S - mean_T)^2 + |var_S - var_T|`` [...], over the last dimension of states [..., H], in float32."""
    (mine, spread), (other, wanted) = (
        (z.float().mean(-1), z.float().var(-1, correction=0)) for z in (student, teacher)
    )
    return (mine - other).square() + (spread - wanted).abs()


@dataclass(kw_only=True, eq=False)
class ProjectedLoss(LayerLoss):
    """What losses that need equal widths share; layer 0 is the input of the first block.

    Args:
        project: always learn a linear map from the student's states to the teacher's; else only where the widths
            differ.
    """

    signal = "hidden"

    project: bool = False

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Ask for the layers that are compared, and makes a projection for each of the student's if one is needed.

        Raises:
            ValueError: if there is no teacher, or a layer lies outside its model.
        """
        super().setup(student, teacher)
        # Layer 0, which may have a width of its own, meets layer 0 alone, or what is named.
        widths = {str(s): (hidden_width(student, s), hidden_width(teacher, t)) for s, t in self.pairing.pairs}
        needed = self.project or any(mine != theirs for mine, theirs in widths.values())
        self.projections = nn.ModuleDict(
            {layer: nn.Linear(*both) if needed else nn.Identity() for layer, both in widths.items()}
        )


@dataclass(kw_only=True, eq=False)
class HiddenLoss(ProjectedLoss):
    """What the losses on single states share.

    Args:
        pooling: what is compared of each layer.
    """

    layers: StateLayers = "uniform"
    pooling: Pooling = "tokens"

    def setup(self, student: PretrainedConfig, teacher: PretrainedConfig | None) -> None:
        """Ask for the layers that are compared.

        Raises:
            ValueError: if the state that stands for a text has seen nothing of it.
        """
        super().setup(student, teacher)
        check_pooling(self.pooling, self.stack, student, teacher)

    def count(self, batch: Batch) -> Tensor:
        """The number of tokens that are not padding, or of examples."""
        valid = self.valid(batch)
        return valid.sum() if self.pooling == "tokens" else valid.new_tensor(len(valid), dtype=torch.long)

    @staticmethod
    @abstractmethod
    def distance(student: Tensor, teacher: Tensor) -> Tensor:
        """How far apart two states are, [...] of [..., H]."""

    def forward(self, student: Trace, teacher: Trace | None, batch: Batch, values: LossValues) -> tuple[Tensor, Tensor]:
        """Sum over the positions and the layer pairs, number of positions."""
        valid, (mine, theirs), pairing = self.valid(batch), self.stacks, self.pairing.at(values.epoch)
        states = {
            s: self.projections[str(s)](pool(student.hidden[mine, s].float(), valid, self.pooling))
            for s in pairing.student_layers
        }
        targets = {t: pool(teacher.hidden[theirs, t].float(), valid, self.pooling) for t in pairing.teacher_layers}
        if self.layers == "mixture":
            all_targets = torch.stack(list(targets.values()))
            total = sum(self.distance(state, attention_mixture(state, all_targets)).sum() for state in states.values())
        else:
            total = pairing.total(lambda s, t: self.distance(states[s], targets[t]).sum())
        return total, self.count(batch)


def check_pooling(pooling: Pooling, stack: str | None, *models: PretrainedConfig) -> None:
    """Raises ValueError if the first token is to stand for its text where it sees nothing that comes after it."""
    if pooling == "first" and any(is_causal(config, find_stack(config, stack)[0]) for config in models):
        raise ValueError("pooling: the first token of a decoder has seen no other; use mean, or tokens")


def attention_mixture(state: Tensor, targets: Tensor) -> Tensor:
    """``sum_t a_t h_t`` [N, H] with ``a = softmax_t(h_S . h_t)``, of states [N, H] and [T, N, H]."""
    return ((state * targets).sum(-1, keepdim=True).softmax(0) * targets).sum(0)


def pool(states: Tensor, valid: Tensor, pooling: Pooling) -> Tensor:
    """Of states [B, S, H], those that are compared, [N, H]: what stands at padding is not even looked at."""
    if pooling == "first":
        return states[:, 0]
    if pooling == "tokens":
        # twice as fast as states[valid], there and back
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
    """Squared distance of normalised states, of the first token (PKD, Sun et al. 2019, arXiv 1908.09355); of decoders,
    whose first token has seen no other, with ``pooling: mean`` or ``tokens``.

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
    """Mean and variance of the states, which ``FeatureMap`` takes no note of (MobileBERT, Sun et al. 2020, arXiv
    2004.02984).
    """

    distance = staticmethod(feature_statistics)
