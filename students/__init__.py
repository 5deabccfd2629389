"""Students: how a smaller model is built from a teacher, and where each model family keeps its parts."""

import sys
from importlib import import_module

from students.kinds.attention import (
    BlockAttention,
    EfficientAttention,
    FixedAttention,
    LinearAttention,
    Linformer,
    LocalAttention,
    Performer,
)
from students.kinds.low_rank import LowRank
from students.kinds.recurrent import GRU, LSTM, RNN
from students.kinds.shared import Shared
from students.kinds.student import Pretrained, Student, resolve
from students.kinds.tensor_train import TensorTrain
from students.kinds.transformer import Transformer

__all__ = [
    "BlockAttention",
    "EfficientAttention",
    "FixedAttention",
    "GRU",
    "LSTM",
    "LinearAttention",
    "Linformer",
    "LocalAttention",
    "LowRank",
    "Performer",
    "Pretrained",
    "RNN",
    "Shared",
    "Student",
    "TensorTrain",
    "Transformer",
    "resolve",
]

# A script that imports this to load a student finds transformers ready for it. That takes seconds, so the command,
# which may find a misspelt key first, goes without: there, what loads a model (students.loading) makes it ready.
if "distill.cli" not in sys.modules:
    import_module("students.loading.own_models")
