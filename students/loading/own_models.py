"""Importing this makes transformers know the models that are ours; it takes seconds."""

from students.compact import models as compact
from students.recurrent import model as recurrent

__all__ = ["compact", "recurrent"]
