"""Students: how a smaller model is built from a teacher, and where each model family keeps its parts."""

from students import compact
from students.attention.kinds import (
    BlockAttention,
    EfficientAttention,
    FixedAttention,
    LinearAttention,
    Linformer,
    LocalAttention,
    Performer,
)
from students.low_rank import LowRank
from students.recurrent.kinds import GRU, LSTM, RNN
from students.shared import Shared
from students.student import Pretrained, Student, resolve
from students.tensor_train import TensorTrain
from students.transformer import Transformer

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
