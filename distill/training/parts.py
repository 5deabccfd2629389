"""The loaded and built parts of a run."""

from __future__ import annotations

from dataclasses import dataclass

from datasets import DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.teachers.averaged_student import AveragedStudent
from distill.teachers.peer import LearningPeer
from distill.teachers.teacher import FrozenTeacher
from students.tokenizer.vocabulary import Vocabulary


@dataclass
class Parts:
    """Data and models of a run."""

    tokenizer: PreTrainedTokenizerBase
    rows: DatasetDict
    teachers: dict[str, FrozenTeacher]
    student: PreTrainedModel
    online_teacher: AveragedStudent | LearningPeer | None
    """A teacher that changes with the student: its moving average or a peer."""
    vocabulary: Vocabulary | None
    """The smaller vocabulary of the deployed student; None if it keeps all tokens."""
    outputs: dict[str, dict[str, str]]
    """By model with trained outputs: {its name of an output: class of the run}."""
    warnings: list[str]
    notes: list[str]
