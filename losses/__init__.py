"""What is compared: labels, logits, hidden states, attention, relations between tokens."""

from losses.attention import AttentionKL, AttentionScores
from losses.hidden import HiddenCosine, HiddenMSE, PatientHidden
from losses.labels import Labels
from losses.logits import Logits, LogitsMSE
from losses.loss import Loss
from losses.relations import Relations

__all__ = [
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
