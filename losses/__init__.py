"""What is compared: labels, logits, hidden states, attention, relations between tokens."""

from losses.loss import Loss
from losses.outputs.correlation import DIST
from losses.outputs.decoupled import DKD
from losses.outputs.labels import Labels
from losses.outputs.logits import (
    JensenShannon,
    Logits,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    TotalVariation,
)
from losses.outputs.mse import LogitsMSE
from losses.pairs.attention import AttentionKL, AttentionScores
from losses.pairs.relations import Relations
from losses.states.contextual import Contextual
from losses.states.contrastive import Contrastive
from losses.states.flow import Flow
from losses.states.hidden import FeatureMap, FeatureStatistics, HiddenCosine, HiddenMSE, PatientHidden

__all__ = [
    "Contextual",
    "Contrastive",
    "Flow",
    "FeatureMap",
    "FeatureStatistics",
    "DIST",
    "DKD",
    "TotalVariation",
    "SkewReverseKL",
    "SkewKL",
    "ReverseKL",
    "JensenShannon",
    "AttentionKL",
    "AttentionScores",
    "HiddenCosine",
    "HiddenMSE",
    "Labels",
    "Logits",
    "LogitsMSE",
    "Loss",
    "PatientHidden",
    "Relations",
]
