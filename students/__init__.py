"""Students: how a smaller model is built from a teacher, and where each model family keeps its parts."""

from students.compact import models as compact
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
    "compact",
    "resolve",
]
