"""What a run is for: a task knows its columns, its head, where predictions stand, and how they are judged."""

from distill.tasks.language.language import CausalLM, MaskedLM
from distill.tasks.language.sequences import Seq2Seq
from distill.tasks.several import MultiTask
from distill.tasks.spans import QuestionAnswering
from distill.tasks.task import DataTask, Task
from distill.tasks.texts import Classification, Regression
from distill.tasks.tokens import TokenClassification

__all__ = [
    "CausalLM",
    "Classification",
    "DataTask",
    "MaskedLM",
    "MultiTask",
    "QuestionAnswering",
    "Regression",
    "Seq2Seq",
    "Task",
    "TokenClassification",
]
