"""From the config to the things: tokenizer, rows, teacher, student, losses that know both."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from datasets import DatasetDict
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from distill.config import Config
from distill.data import prepare
from distill.experiment import Experiment
from distill.hub import loading
from distill.teacher import FrozenTeacher
from students.student import resolve


@dataclass
class Parts:
    """What a run is made of."""

    tokenizer: PreTrainedTokenizerBase
    tables: DatasetDict
    rows: DatasetDict
    texts: list[str]
    labels: list[str]
    teacher: FrozenTeacher | None
    student: PreTrainedModel
    warnings: list[str]


def assemble(config: Config[Experiment]) -> Parts:
    """Loads and builds everything, and sets the losses up; what can be checked cheaply is checked first."""
    experiment, teacher_config = config.value, None
    if experiment.teacher:
        with config.blame("teacher"), loading(resolve(experiment.teacher.model)):
            teacher_config = experiment.teacher.config()
    with config.blame("student"):
        experiment.student.check(teacher_config)
    named = getattr(experiment.student, "model", None) or experiment.teacher.model
    with config.blame("student" if getattr(experiment.student, "model", None) else "teacher"), loading(resolve(named)):
        tokenizer = AutoTokenizer.from_pretrained(resolve(named))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    with config.blame("student" if getattr(experiment.student, "model", None) else "teacher"):
        if len(tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)) < 2:
            raise ValueError(
                f"model: {named!r} has no tokenizer files, and without them every word is unknown; save its tokenizer "
                f"there"
            )
    with config.blame("teacher"):
        _same_tokens(tokenizer, experiment, named)
    with config.blame("task"):
        for step in experiment.task.augmentations():
            step.check(tokenizer)
        tables, rows, texts, labels = prepare(
            experiment.task, tokenizer, teacher_config.id2label if teacher_config else None
        )
        longest, limit = max(max(part["length"]) for part in rows.values()), tokenizer.model_max_length
        if longest > limit:
            raise ValueError(f"max_length: there are rows of {longest} tokens, and {named} reads {limit} at most")
    teacher = None
    if experiment.teacher:
        with config.blame("teacher"):
            if teacher_config.num_labels != len(labels):
                raise ValueError(
                    f"model: the teacher has {teacher_config.num_labels} outputs, the data {len(labels)} ("
                    f"{', '.join(labels)})"
                )
            with loading(resolve(experiment.teacher.model)):
                teacher = FrozenTeacher(experiment.teacher.load())
    with config.blame("student"), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        student = experiment.student.build(
            teacher.model if teacher else None, dict(enumerate(labels)), experiment.task.problem
        )
    for model in (student, teacher.model if teacher else student):
        model.config.pad_token_id = tokenizer.pad_token_id
    for name, loss in experiment.losses.items():
        with config.blame(f"losses.{name}"):
            loss.setup(student.config, teacher.model.config if teacher else None)
    return Parts(
        tokenizer,
        tables,
        rows,
        texts,
        labels,
        teacher,
        student,
        [str(w.message) for w in warned if w.category is UserWarning],
    )


def _same_tokens(tokenizer: PreTrainedTokenizerBase, experiment: Experiment, named: str) -> None:
    if experiment.teacher and experiment.teacher.model != named:
        with loading(resolve(experiment.teacher.model)):
            other = AutoTokenizer.from_pretrained(resolve(experiment.teacher.model))
        if other.get_vocab() != tokenizer.get_vocab():
            raise ValueError(
                f"model: {experiment.teacher.model} and {named} have different vocabularies; a teacher and a student "
                f"read the same tokens"
            )
