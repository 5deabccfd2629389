"""Students: how a smaller model is built from a teacher, and where each model family keeps its parts."""

from students import compact
from students.student import Pretrained, Student, resolve
from students.subquadratic import (
    BlockAttention,
    EfficientAttention,
    FixedAttention,
    LinearAttention,
    Linformer,
    LocalAttention,
    Performer,
)
from students.transformer import Transformer

__all__ = [
    "BlockAttention",
    "EfficientAttention",
    "FixedAttention",
    "LinearAttention",
    "Linformer",
    "LocalAttention",
    "Performer",
    "Pretrained",
    "Student",
    "Transformer",
    "compact",
    "resolve",
]
