"""Students: how a smaller model is built from a teacher, and where each model family keeps its parts."""

from students import compact
from students.low_rank import LowRank
from students.student import Pretrained, Student, resolve
from students.transformer import Transformer

__all__ = ["LowRank", "Pretrained", "Student", "Transformer", "compact", "resolve"]
