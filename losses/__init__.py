"""What is compared: labels, logits, hidden states, attention, relations between tokens."""

from losses.attention import AttentionKL, AttentionScores
from losses.contextual import Contextual
from losses.contrastive import Contrastive
from losses.correlation import DIST
from losses.decoupled import DKD
from losses.flow import Flow
from losses.hidden import FeatureMap, FeatureStatistics, HiddenCosine, HiddenMSE, PatientHidden
from losses.labels import Labels
from losses.logits import (
    JensenShannon,
    Logits,
    LogitsMSE,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    TotalVariation,
)
from losses.loss import Loss
from losses.relations import Relations

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
