"""From the config to the things: tokenizer, rows, teachers, student, losses that know them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from datasets import DatasetDict
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from distill.config.config import Config
from distill.data import prepare_data
from distill.data.vocabulary import reachable_tokens
from distill.experiment.experiment import Experiment
from distill.teachers.averaged_student import AveragedStudent
from distill.teachers.moving_average import MovingAverage
from distill.teachers.peer import LearningPeer, Peer
from distill.teachers.teacher import FrozenTeacher
from distill.training.callbacks.replace import groups
from distill.training.parts import Parts
from distill.training.prepare.checks.fit import align_outputs, check_decoder_start, check_limits, check_spelling
from distill.training.prepare.first_batches import first_batches
from distill.training.prepare.loss_setup import set_losses_up
from students.kinds.student import resolve, set_task
from students.loading.adapters import load_config, load_tokenizer
from students.loading.finite_weights import check_finite_weights
from students.loading.hub import loading
from students.tokenizer.vocabulary import select_vocabulary


def assemble(config: Config[Experiment], begins: bool = True) -> Parts:
    """Loads and builds everything, and sets the losses up; what can be checked cheaply is checked first.

    ``begins`` is whether the student's weights are those of the first step; else it looks at no data for them.
    """
    experiment, known = config.value, _teacher_configs(config)
    with config.error_context("student"):
        experiment.student.check(next(iter(known.values()), None))
    tokenizer, named = _tokenizer(config)
    rows, notes = _rows(config, known, tokenizer, named)
    _check_tokenizers(config, rows, tokenizer, named)
    outputs: dict[str, dict[str, str]] = {}
    teachers = _teachers(config, known, rows, tokenizer, outputs)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        start = getattr(next(iter(known.values()), None), "decoder_start_token_id", None)
        batches = first_batches(experiment.task, rows["train"], tokenizer, start, experiment.seed) if begins else ()
        student, companion = _student(config, [teacher.model for teacher in teachers.values()], batches, outputs)
    with config.error_context("student"):
        check_decoder_start(student.config, "the student")
        check_limits(student, "the student", rows, tokenizer)
    learnt_from = {"teacher": companion} if companion else teachers
    if experiment.replace:
        with config.error_context("replace"):
            groups(student, next(iter(teachers.values())).model)
    _check_steps(config, student)
    for model in (student, *(teacher.model for teacher in learnt_from.values())):
        model.config.pad_token_id = tokenizer.pad_token_id
        experiment.task.add_end_tokens(getattr(model, "generation_config", None))
    vocabulary = None
    if experiment.vocabulary:
        with config.error_context("vocabulary"):
            vocabulary = select_vocabulary(
                tokenizer, reachable_tokens(rows["train"], experiment.task.augmentations()), student
            )
    set_losses_up(config, student.config, {name: teacher.model.config for name, teacher in learnt_from.items()})
    said = [str(w.message) for w in warned if w.category is UserWarning]
    return Parts(tokenizer, rows, teachers, student, companion, vocabulary, outputs, said, notes)


def _teacher_configs(config: Config[Experiment]) -> dict[str, PretrainedConfig]:
    found = {}
    for name, teacher in config.value.teachers().items():
        with config.error_context(_key(name, config.value)), loading(resolve(teacher.model)):
            found[name] = teacher.config()
    return found


def _rows(
    config: Config[Experiment], known: dict[str, PretrainedConfig], tokenizer: PreTrainedTokenizerBase, named: str
) -> tuple[DatasetDict, list[str]]:
    """The rows as tokens, none longer than the model ``named`` reads, and what the report should say of them."""
    experiment, task = config.value, config.value.task
    if places := getattr(experiment.student, "max_position_embeddings", None):
        tokenizer.model_max_length = places
    with config.error_context("task"):
        for step in task.augmentations():
            step.setup(tokenizer)
        rows = prepare_data(task, tokenizer, _heads(config, known))
        longest, limit = max(max(part["length"]) for part in rows.values()), tokenizer.model_max_length
        if longest > limit:
            raise ValueError(f"max_length: there are rows of {longest} tokens, and {named} reads {limit} at most")
    return rows, task.notes


def _heads(config: Config[Experiment], known: dict[str, PretrainedConfig]) -> dict[str, dict[int, str]]:
    """Return by task the names of the outputs whose order the run has: of its own or of the first teacher, else of
    a student that exists.
    """
    experiment = config.value
    if experiment.has_teacher_per_task():
        return {name: teacher.id2label for name, teacher in known.items()}
    if known:
        return {"": next(iter(known.values())).id2label}
    model = getattr(experiment.student, "model", None)
    if model is None:
        return {}
    with config.error_context("student"), loading(resolve(model)):
        return {"": load_config(resolve(model)).id2label}


def _teachers(
    config: Config[Experiment],
    known: dict[str, PretrainedConfig],
    rows: DatasetDict,
    tokenizer: PreTrainedTokenizerBase,
    outputs: dict[str, dict[str, str]],
) -> dict[str, FrozenTeacher]:
    """The teachers by name, all of which read all rows, and whose outputs stand in the order of the classes."""
    experiment, task, found = config.value, config.value.task, {}
    for name, teacher in experiment.teachers().items():
        with config.error_context(_key(name, experiment)):
            part = task.parts[name] if experiment.has_teacher_per_task() else task
            if part.classes:
                with model_at_fault():
                    part.head_order(list(known[name].id2label.values()))
            with loading(resolve(teacher.model)):
                model = teacher.load(task.head)
            with model_at_fault():
                check_decoder_start(model.config, repr(teacher.model))
                check_limits(model, repr(teacher.model), rows, tokenizer)
                outputs[name] = align_outputs(model, part)
            if experiment.replace:
                model.float()  # its blocks run between the student's
            found[name] = FrozenTeacher(model, teacher.stored())
    return found


@contextmanager
def model_at_fault() -> Iterator[None]:
    """Says of a ``ValueError`` inside that it lies at the key ``model``."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"model: {error}") from error


def _student(
    config: Config[Experiment],
    teachers: list[PreTrainedModel],
    batches: Iterable[dict[str, Tensor]],
    outputs: dict[str, dict[str, str]],
) -> tuple[PreTrainedModel, AveragedStudent | LearningPeer | None]:
    """The student, and the teacher that changes with it."""
    experiment, task = config.value, config.value.task
    labels = dict(enumerate(task.classes.names)) if task.classes else None
    with config.error_context("student"):
        teacher = teachers[0] if teachers else None
        student = experiment.student.build(teacher, labels, task.problem, task.head, batches)
        check_finite_weights(student)
        outputs["student"] = align_outputs(student, task)
        set_task(student.config, labels, task.problem)
    with config.error_context("teacher.peer"):
        if isinstance(experiment.teacher, Peer):
            peer = experiment.teacher.create(student, task.head)
            align_outputs(peer.model, task)
            return student, peer
        if isinstance(experiment.teacher, MovingAverage):
            return student, experiment.teacher.create(student)
    return student, None


def _check_steps(config: Config[Experiment], student: PreTrainedModel) -> None:
    """Whether what is to be frozen, pruned and quantized is there."""
    experiment = config.value
    with config.error_context("optimizer"):
        experiment.optimizer.check(student)
    for name, pruner in experiment.pruners().items():
        with config.error_context(experiment.prune_key(name)):
            pruner.find(student)
    if experiment.quantize:
        with config.error_context("quantize"):
            experiment.quantize.find(student)


def _key(name: str, experiment: Experiment) -> str:
    """Where a teacher stands in the config."""
    return "teacher" if len(experiment.teachers()) == 1 else f"teacher.members.{name}"


def _tokenizer(config: Config[Experiment]) -> tuple[PreTrainedTokenizerBase, str]:
    """The student's tokenizer, or the first teacher's for a student that is built; and whose it is."""
    experiment = config.value
    own, teachers = getattr(experiment.student, "model", None), experiment.teachers()
    named = own or next(iter(teachers.values())).model
    with config.error_context("student" if own else _key(next(iter(teachers), ""), experiment)):
        with loading(resolve(named)):
            tokenizer = load_tokenizer(resolve(named))
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if len(tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)) < 2:
            raise ValueError(
                f"model: {named!r} has no tokenizer files, and without them every word is unknown; save its tokenizer "
                f"there"
            )
    return tokenizer, named


def _check_tokenizers(
    config: Config[Experiment], rows: DatasetDict, tokenizer: PreTrainedTokenizerBase, named: str
) -> None:
    """Whether all models read the rows as the run's tokenizer makes them."""
    experiment = config.value
    models = {_key(name, experiment): teacher.model for name, teacher in experiment.teachers().items()}
    if isinstance(experiment.teacher, Peer):
        models["teacher.peer"] = getattr(experiment.teacher.peer, "model", named)
    for key, model in models.items():
        if model == named:
            continue
        with config.error_context(key):
            with loading(resolve(model)):
                other = load_tokenizer(resolve(model))
            with model_at_fault():
                check_spelling(experiment.task, rows, tokenizer, other)
