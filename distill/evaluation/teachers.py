"""The teachers as models to evaluate: their files, and the batches in the tokens that each reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.tasks.task import Predict, Task
from distill.teachers.ensemble import EnsembleModel
from distill.teachers.settings import TeacherSettings
from distill.teachers.teacher import FrozenTeacher
from students.loading.stored import StoredPrecision

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from students.recording.batch import Batch


def teacher_models(
    task: Task, settings: TeacherSettings | None, teachers: dict[str, FrozenTeacher]
) -> dict[str, PreTrainedModel | EnsembleModel]:
    """Return the teacher on the CPU; of several, the combined one and each member."""
    for teacher in teachers.values():
        teacher.recorder.close()
        teacher.model.cpu()
    models = {name: teacher.model for name, teacher in teachers.items()}
    own = {name: teacher.own_tokens for name, teacher in teachers.items() if teacher.own_tokens}
    return settings.evaluation_models(models, task, own) if settings else {}


def stored_teachers(teachers: dict[str, FrozenTeacher]) -> dict[str, StoredPrecision]:
    """Return how the teachers' weights are stored, by name in the report; of several, the average per parameter."""
    if not teachers:
        return {}
    counts = [teacher.model.num_parameters() for teacher in teachers.values()]
    all_stored = [teacher.stored for teacher in teachers.values()]
    bytes_per_weight = sum(n * stored.bytes_per_weight for n, stored in zip(counts, all_stored, strict=True)) / sum(
        counts
    )
    precisions = ", ".join(dict.fromkeys(stored.precision for stored in all_stored))
    members = {f"teacher {name}": teacher.stored for name, teacher in teachers.items()}
    return members | {"teacher": StoredPrecision(precisions, bytes_per_weight)}


def own_reader(teachers: dict[str, FrozenTeacher], name: str) -> FrozenTeacher | None:
    """Return the teacher that a name in the report stands for, if it reads tokens of its own.

    Several teachers as one model select their inputs themselves.
    """
    teacher = teachers.get("teacher") or teachers.get(name.removeprefix("teacher "))
    return teacher if teacher and teacher.own_tokens else None


def read_batches(teachers: dict[str, FrozenTeacher], name: str, batches: list[Batch]) -> list[Batch]:
    """Return batches as the teacher of this name in the report reads them."""
    teacher = own_reader(teachers, name)
    return [teacher.read(batch) for batch in batches] if teacher else batches


def reading(teachers: dict[str, FrozenTeacher], name: str, predict: Predict) -> Predict:
    """Return a runner of the teacher of this name that takes any batch of the run."""
    teacher = own_reader(teachers, name)
    if teacher is None or teacher.own_tokens is None:
        return predict
    own = teacher.own_tokens
    return lambda batch: own.align(predict(own.read(batch)), batch)
