"""Students: how a smaller model is built from a teacher, and where each model family keeps its parts."""

import sys
from importlib import import_module

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
    "resolve",
]

# A script that imports this to load a student finds transformers ready for it. That takes seconds, so the command,
# which may find a misspelt key first, goes without: there, what loads a model (students.loading) makes it ready.
if "distill.cli" not in sys.modules:
    import_module("students.loading.own_models")
