"""The tokenizers of a run: that of the student, and those of teachers that read a text in tokens of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase

from distill.config.config import Config
from distill.data.teachers.own_columns import has_same_tokens, longest_row, without_teacher
from distill.experiment.experiment import Experiment
from distill.training.prepare.checks.fit import check_tokenization, same_tokenizer
from students.kinds.student import resolve
from students.loading.adapters import load_tokenizer, set_padding, tokenizer_source
from students.loading.hub import loading
from students.recording.own_tokens import OwnTokens
from students.tokenizer.encoder import TextEncoder


@contextmanager
def at_model_key() -> Iterator[None]:
    """Add the key ``model`` to the message of a ValueError inside the block."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"model: {error}") from error


def run_tokenizer(config: Config[Experiment]) -> tuple[PreTrainedTokenizerBase, str]:
    """Return the tokenizer that the student has, and its name or that of its model: of the first teacher by default."""
    experiment = config.value
    if named := getattr(experiment.student, "tokenizer", None):
        with config.error_context("student.tokenizer"):
            return _load(named, tokenizer_source(named)), named
    student_model, teachers = getattr(experiment.student, "model", None), experiment.teachers()
    model_name = student_model or next(iter(teachers.values())).model
    with config.error_context("student" if student_model else experiment.teacher_key(next(iter(teachers), ""))):
        return _load(model_name, resolve(model_name)), model_name


def add_teacher_encoders(
    config: Config[Experiment], tokenizer: PreTrainedTokenizerBase, model_name: str
) -> dict[str, TextEncoder]:
    """Let the task encode its texts for each teacher too that may read other tokens, before its data are read.

    Tasks whose outputs belong to tokens encode once; ``own_tokens`` refuses other tokens there.

    Args:
        config: the config of the run.
        tokenizer: the student's.
        model_name: the model that it comes from.

    Returns:
        The encoders by teacher.
    """
    experiment, task, encoders = config.value, config.value.task, {}
    for name, teacher in experiment.teachers().items():
        with config.error_context(experiment.teacher_key(name)):
            if teacher.max_length is not None and not task.allows_own_tokens:
                raise ValueError(f"max_length: {_NOT_WHOLE}; write task.max_length, which is that of both")
            if not task.allows_own_tokens or (teacher.model == model_name and teacher.max_length is None):
                continue
            own = tokenizer if teacher.model == model_name else _load(teacher.model, resolve(teacher.model))
            if getattr(experiment.student, "tokenizer", None):  # its blocks are the teacher's, and read no more
                tokenizer.model_max_length = min(tokenizer.model_max_length, own.model_max_length)
            if same_tokenizer(tokenizer, own) and teacher.max_length is None:
                continue
            if experiment.teacher.is_ensemble and any(part.reads_words for part in task.parts.values()):
                raise ValueError(f"model: {_ENSEMBLE}")
        for part in task.parts.values():
            encoders[name] = TextEncoder(own, teacher.max_length or part.max_length)
            part.teacher_encoders[name] = encoders[name]
    return encoders


def own_tokens(
    config: Config[Experiment],
    rows: DatasetDict,
    tokenizer: PreTrainedTokenizerBase,
    model_name: str,
    encoders: dict[str, TextEncoder],
) -> tuple[DatasetDict, dict[str, OwnTokens]]:
    """Return the rows, and the inputs of each teacher that reads tokens of its own; equal encodings are dropped.

    Raises:
        ConfigError: if a model reads other tokens where it cannot.
    """
    experiment, task, own = config.value, config.value.task, {}
    for name, encoder in encoders.items():
        is_drawn = task.augments and encoder.tokenizer.get_vocab() != tokenizer.get_vocab()
        if has_same_tokens(rows, name) and not is_drawn:
            rows = without_teacher(rows, name)
            for part in task.parts.values():
                del part.teacher_encoders[name]
            continue
        with config.error_context(experiment.teacher_key(name)):
            longest, limit = longest_row(rows, name), encoder.tokenizer.model_max_length
            if longest > limit:
                reason = f"there are rows of {longest} of its own tokens, and it reads {limit} at most"
                raise ValueError(f"max_length: {reason}; write a smaller one")
        own[name] = OwnTokens(name, encoder.tokenizer.pad_token_id, encoder.tokenizer.pad_token_type_id)
    models = {experiment.teacher_key(name): teacher.model for name, teacher in experiment.teachers().items()}
    models = {} if task.allows_own_tokens else models
    if peer := getattr(experiment.teacher, "peer", None):
        models["teacher.peer"] = getattr(peer, "model", model_name)
    for key, model in models.items():
        if model == model_name:
            continue
        with config.error_context(key):
            other = _load(model, resolve(model))
            with at_model_key():
                try:
                    check_tokenization(task, rows, tokenizer, other)
                except ValueError as error:
                    raise ValueError(f"{error}; {_PEER if peer else _NOT_WHOLE}") from error
    return rows, own


def own_tokens_note(name: str, rows: DatasetDict, encoder: TextEncoder) -> str:
    """Return a note for the report on a teacher that reads tokens of its own."""
    longest = longest_row(rows, name)
    return f"{name}: reads the texts in tokens of its own, {longest} at most (max_length: {encoder.max_length})"


_NOT_WHOLE = "the outputs of this task belong to tokens, so teacher and student must read the same"
_ENSEMBLE = "it reads other tokens, and outputs for words are combined token by token; name one teacher for this task"
_PEER = "a peer reads the student's batches, so both must read the same"


def _load(model: str, source: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model in ``source``, with a padding token.

    Raises:
        ValueError: if the model has none.
    """
    with loading(source):
        tokenizer = set_padding(load_tokenizer(source))
    if len(tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)) < 2:
        raise ValueError(
            f"model: {model!r} has no tokenizer files, and without them every word is unknown; save its tokenizer there"
        )
    return tokenizer
