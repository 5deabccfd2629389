"""Assemble the parts of a run from its config: tokenizer, rows, teachers, student, losses."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

from datasets import DatasetDict
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from distill.config.config import Config
from distill.data import prepare_data
from distill.data.limit import text_lengths
from distill.data.teachers.own_columns import teacher_rows
from distill.data.vocabulary import reachable_tokens
from distill.experiment.experiment import Experiment
from distill.tasks.soft_labels import SoftLabelsError
from distill.tasks.task import Task
from distill.teachers.averaged_student import AveragedStudent
from distill.teachers.peer import LearningPeer
from distill.teachers.settings import TEACHER_CACHE
from distill.teachers.teacher import FrozenTeacher
from distill.training.callbacks.replace import block_groups
from distill.training.parts import Parts
from distill.training.prepare.checks.fit import align_outputs, check_decoder_start, check_limits
from distill.training.prepare.checks.soft_labels import check_soft_labels
from distill.training.prepare.first_batches import first_batches
from distill.training.prepare.loss_setup import set_up_losses
from distill.training.prepare.tokenizers import (
    add_teacher_encoders,
    at_model_key,
    own_tokens,
    own_tokens_note,
    run_tokenizer,
)
from students.kinds.student import resolve, set_task
from students.loading.adapters import load_config
from students.loading.finite_weights import check_finite_weights
from students.loading.hub import loading
from students.recording.own_tokens import OwnTokens
from students.tokenizer.vocabulary import select_vocabulary


def assemble(config: Config[Experiment], begins: bool = True) -> Parts:
    """Load and build all parts of a run, and set up the losses; cheap checks come first.

    Args:
        config: the config of the run.
        begins: whether the run starts at step 0; else the student is built without data, for its weights are loaded.

    Raises:
        ConfigError: at the first key that does not fit.
    """
    experiment, teacher_configs = config.value, _teacher_configs(config)
    with config.error_context("student"):
        experiment.student.check(next(iter(teacher_configs.values()), None))
    tokenizer, model_name = run_tokenizer(config)
    encoders = add_teacher_encoders(config, tokenizer, model_name)
    rows, notes = _rows(config, teacher_configs, tokenizer, model_name)
    notes += check_soft_labels(config, rows) + getattr(experiment.task, "judge_notes", [])
    rows, own = own_tokens(config, rows, tokenizer, model_name, encoders)
    notes += [own_tokens_note(name, rows, encoders[name]) for name in own]
    outputs = _recorded_outputs(experiment.task)
    tokenizers = {name: encoders[name].tokenizer if name in own else tokenizer for name in teacher_configs}
    teachers = _teachers(config, teacher_configs, rows, tokenizers, own, outputs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = getattr(next(iter(teacher_configs.values()), None), "decoder_start_token_id", None)
        batches = first_batches(experiment.task, rows["train"], tokenizer, start, experiment.seed) if begins else ()
        student, online_teacher = _student(config, [teacher.model for teacher in teachers.values()], batches, outputs)
    with config.error_context("student"):
        check_decoder_start(student.config, "the student")
        check_limits(student, "the student", rows, tokenizer)
    all_teachers = {"teacher": online_teacher} if online_teacher else teachers
    if experiment.replace:
        with config.error_context("replace"):
            block_groups(student, next(iter(teachers.values())).model)
    _check_compression(config, student)
    for name, model in {"": student, **{name: teacher.model for name, teacher in all_teachers.items()}}.items():
        model.config.pad_token_id = (tokenizers.get(name) or tokenizer).pad_token_id
        experiment.task.add_end_tokens(getattr(model, "generation_config", None))
    vocabulary = None
    if experiment.vocabulary:
        with config.error_context("vocabulary"):
            vocabulary = select_vocabulary(
                tokenizer, reachable_tokens(rows["train"], experiment.task.augmentations()), student
            )
    configs = {name: teacher.model.config for name, teacher in all_teachers.items()}
    if experiment.teacher and not configs:  # a teacher without a model has the student's outputs
        configs = {"teacher": student.config}
    set_up_losses(config, student.config, configs)
    messages = [str(w.message) for w in caught if w.category is UserWarning]
    return Parts(tokenizer, rows, teachers, student, online_teacher, vocabulary, outputs, messages, notes)


def _teacher_configs(config: Config[Experiment]) -> dict[str, PretrainedConfig]:
    configs = {}
    for name, teacher in config.value.teachers().items():
        with config.error_context(config.value.teacher_key(name)), loading(resolve(teacher.model)):
            configs[name] = teacher.config()
    return configs


def _rows(
    config: Config[Experiment],
    teacher_configs: dict[str, PretrainedConfig],
    tokenizer: PreTrainedTokenizerBase,
    model_name: str,
) -> tuple[DatasetDict, list[str]]:
    """Return the rows as tokens, none longer than the model's maximum, and notes that are not those of one data set."""
    experiment, task = config.value, config.value.task
    if places := getattr(experiment.student, "max_position_embeddings", None):
        tokenizer.model_max_length = places
    with config.error_context("teacher"):
        if experiment.teacher:
            experiment.teacher.set_up_task(task, Path(experiment.output) / TEACHER_CACHE)
    with config.error_context("task"):
        for step in task.augmentations():
            step.setup(tokenizer)
        try:
            rows = prepare_data(task, tokenizer, _heads(config, teacher_configs))
        except SoftLabelsError as error:
            raise config.error("teacher", str(error)) from error
        longest, limit = max(max(text_lengths(part)) for part in rows.values()), tokenizer.model_max_length
        if longest > limit:
            raise ValueError(f"max_length: there are rows of {longest} tokens, and {model_name} reads {limit} at most")
    return rows, list(task.notes) if task.is_multi_task else []


def _heads(config: Config[Experiment], teacher_configs: dict[str, PretrainedConfig]) -> dict[str, dict[int, str]]:
    """Return by task {output: name} that sets the order of classes: of its or the first teacher, or of the student."""
    experiment = config.value
    if experiment.has_teacher_per_task():
        return {name: teacher.id2label for name, teacher in teacher_configs.items()}
    if teacher_configs:
        return {"": next(iter(teacher_configs.values())).id2label}
    model = getattr(experiment.student, "model", None)
    if model is None:
        return {}
    with config.error_context("student"), loading(resolve(model)):
        return {"": load_config(resolve(model)).id2label}


def _recorded_outputs(task: Task) -> dict[str, dict[str, str]]:
    """Return {column or word: class} of a teacher whose outputs are recorded."""
    if judge := getattr(task, "judge", None):
        return {"teacher": judge.outputs(task.classes)}
    labels = getattr(task, "soft_labels", None)
    return {"teacher": dict(zip(labels.by_class(task.classes), task.classes.names, strict=True))} if labels else {}


def _teachers(
    config: Config[Experiment],
    teacher_configs: dict[str, PretrainedConfig],
    rows: DatasetDict,
    tokenizers: dict[str, PreTrainedTokenizerBase],
    own: dict[str, OwnTokens],
    outputs: dict[str, dict[str, str]],
) -> dict[str, FrozenTeacher]:
    """Return the teachers by name, checked against the rows, their outputs in the order of the classes."""
    experiment, task, teachers = config.value, config.value.task, {}
    for name, teacher in experiment.teachers().items():
        key = experiment.teacher_key(name)
        with config.error_context(key):
            part = task.parts[name] if experiment.has_teacher_per_task() else task
            if part.classes:
                with at_model_key():
                    part.head_order(list(teacher_configs[name].id2label.values()))
            with loading(resolve(teacher.model)):
                model = teacher.load(task.head)
            with at_model_key():
                check_decoder_start(model.config, repr(teacher.model))
                read = DatasetDict({split: teacher_rows(part, own.get(name)) for split, part in rows.items()})
                check_limits(model, repr(teacher.model), read, tokenizers[name], f"{key}.max_length")
                outputs[name] = align_outputs(model, part)
            if experiment.replace:
                model.float()  # its blocks run between the student's
            teachers[name] = FrozenTeacher(model, teacher.stored(), own.get(name))
    return teachers


def _student(
    config: Config[Experiment],
    teachers: list[PreTrainedModel],
    batches: Iterable[dict[str, Tensor]],
    outputs: dict[str, dict[str, str]],
) -> tuple[PreTrainedModel, AveragedStudent | LearningPeer | None]:
    """Return the student, and its online teacher if it has one."""
    experiment, task = config.value, config.value.task
    labels = dict(enumerate(task.classes.names)) if task.classes else None
    with config.error_context("student"):
        teacher = teachers[0] if teachers else None
        student = experiment.student.build(teacher, labels, task.problem, task.head, batches)
        check_finite_weights(student)
        outputs["student"] = align_outputs(student, task)
        set_task(student.config, labels, task.problem)
    with config.error_context("teacher.peer"):
        online_teacher = experiment.teacher.create_online(student, task.head) if experiment.teacher else None
        if online_teacher:
            align_outputs(online_teacher.model, task)
    return student, online_teacher


def _check_compression(config: Config[Experiment], student: PreTrainedModel) -> None:
    """Raise ConfigError if the student lacks the weights to freeze, prune or quantize."""
    experiment = config.value
    with config.error_context("optimizer"):
        experiment.optimizer.check(student)
    for name, pruner in experiment.pruners().items():
        with config.error_context(experiment.prune_key(name)):
            pruner.find(student)
    if experiment.quantize:
        with config.error_context("quantize"):
            experiment.quantize.find(student)
