"""Students: how a smaller model is built from a teacher, and where each model family keeps its parts."""

from students.forms import compact
from students.forms.attention import (
    Attention,
    BlockAttention,
    EfficientAttention,
    FixedAttention,
    LinearAttention,
    Linformer,
    LocalAttention,
    Performer,
)
from students.forms.embeddings import Embeddings, Factorised, TensorTrain
from students.forms.form import Form
from students.forms.low_rank import LowRank
from students.forms.share_layers import ShareLayers
from students.kinds.recurrent import GRU, LSTM, RNN
from students.kinds.student import Pretrained, Student, resolve
from students.kinds.transformer import Transformer

__all__ = [
    "Attention",
    "BlockAttention",
    "EfficientAttention",
    "Embeddings",
    "Factorised",
    "FixedAttention",
    "Form",
    "GRU",
    "LSTM",
    "LinearAttention",
    "Linformer",
    "LocalAttention",
    "LowRank",
    "Performer",
    "Pretrained",
    "RNN",
    "ShareLayers",
    "Student",
    "TensorTrain",
    "Transformer",
    "compact",
    "resolve",
]
