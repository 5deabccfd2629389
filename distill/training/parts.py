"""What a run is made of, once everything is loaded and built."""

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
    """What a run is made of."""

    tokenizer: PreTrainedTokenizerBase
    rows: DatasetDict
    teachers: dict[str, FrozenTeacher]
    student: PreTrainedModel
    companion: AveragedStudent | LearningPeer | None
    """The teacher that changes with the student."""
    vocabulary: Vocabulary | None
    """What the deployed student will have of the tokens, if not all."""
    outputs: dict[str, dict[str, str]]
    """Of each model with trained outputs {its name of an output: class of the run}."""
    warnings: list[str]
    notes: list[str]
