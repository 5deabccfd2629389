"""The base class of students, which build the model that is trained; and pretrained students."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor

from students.forms.attention import Attention
from students.forms.compatibility import check_forms
from students.forms.embeddings import Embeddings
from students.forms.form import Form, check_sizes
from students.forms.low_rank import LowRank
from students.forms.share_layers import ShareLayers
from students.kinds.dropout import check_dropout, set_dropout
from students.loading.adapters import ADAPTER_CONFIG as ADAPTER
from students.loading.adapters import load_config, load_model
from students.loading.auto_class import AutoClass
from students.structure.outputs import ProblemType, check_problem_type, label_names
from students.structure.position_embeddings import resize_position_embeddings
from students.structure.sharing import name_shared_layers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class Student(ABC):
    """A way to build the student: the subclass builds a base model, and any set of forms changes it.

    Args:
        attention: sub-quadratic attention in every block.
        share_layers: blocks that run the same layers.
        low_rank: linear layers as two low-rank factors.
        embeddings: compressed token embeddings.
    """

    # Forms are applied in this order, which is that of ``students.models.compact.FORMS``.
    attention: Attention | None = None
    share_layers: ShareLayers | None = None
    low_rank: LowRank | None = None
    embeddings: Embeddings | None = None

    @property
    def forms(self) -> dict[str, Form]:
        """The forms that are set, by key, in the order in which they are applied."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Form)}

    @property
    def is_trained(self) -> bool:
        """Whether the weights of the base come from a trained model, and not from random initialization."""
        return False

    def check(self, teacher: PretrainedConfig | None) -> None:
        """Raise ValueError if the student cannot be built for a teacher of this config; no weights are needed."""

    @abstractmethod
    def build_base(
        self,
        teacher: PreTrainedModel | None,
        id2label: dict[int, str] | None,
        problem_type: ProblemType | None,
        head: AutoClass | None,
    ) -> PreTrainedModel:
        """Build the student without its forms: in float32 whatever the teacher's dtype, with a config of its own.

        Args:
            teacher: of the run, if there is one; it must not change.
            id2label: the names of the task's labels; None keeps those of the model, but a regression has one label.
            problem_type: transformers' ``problem_type``; None keeps that of the model.
            head: the Auto class of transformers; by default for sequence classification.

        Raises:
            ValueError: if the student cannot be built; the message starts with the field.
        """

    def adapt(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]]) -> None:
        """Change a built base, in place, by what batches of training show of it; by default do nothing."""

    def build(
        self,
        teacher: PreTrainedModel | None,
        id2label: dict[int, str] | None,
        problem_type: ProblemType | None,
        head: AutoClass | None = None,
        batches: Iterable[dict[str, Tensor]] = (),
    ) -> PreTrainedModel:
        """Build the student, base and forms, in train mode.

        Args:
            teacher: as in ``build_base``, like ``id2label``, ``problem_type`` and ``head``.
            batches: of training, for what depends on them; without them only values differ, and no shape.

        Raises:
            ValueError: if the student cannot be built; the message starts with the field.
        """
        student = self.build_base(teacher, id2label, problem_type, head)
        self.adapt(student, batches)
        if self.forms:
            from students.models.compact import become_compact  # not above: a config is read without transformers

            check_forms(self.forms, student.config)
            become_compact(student)
            for key, form in self.forms.items():
                try:
                    form.apply(student, batches, self.is_trained)
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from error
            name_shared_layers(student)
        student.train()
        return student


@dataclass(kw_only=True)
class Pretrained(Student):
    """A pretrained model.

    Args:
        model: a hub name, a folder (an adapter's too), or the folder of an earlier run.
        head: ``keep`` its head, which must fit the task, or initialize a ``new`` one, for a model of another task.
        max_position_embeddings: maximum number of tokens; learned position embeddings are repeated to this length.
        dropout: every dropout probability of the model; by default as in its config.

    Raises:
        ValueError: if ``max_position_embeddings`` is not positive, or ``dropout`` not in [0, 1).
    """

    shorthand: ClassVar[str] = "model"

    model: str
    head: Literal["keep", "new"] = "keep"
    max_position_embeddings: int | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        check_sizes(self, "max_position_embeddings")
        check_dropout(self.dropout)

    def check(self, teacher: PretrainedConfig | None) -> None:
        resolve(self.model)

    @property
    def is_trained(self) -> bool:
        return True

    def build_base(
        self,
        teacher: PreTrainedModel | None,
        id2label: dict[int, str] | None,
        problem_type: ProblemType | None,
        head: AutoClass | None,
    ) -> PreTrainedModel:
        source = resolve(self.model)
        config = load_config(source)
        saved_names, saved_count = label_names(config), config.num_labels
        if self.head == "keep":
            check_problem_type(config, problem_type)
        if self.forms:
            check_forms(self.forms, config)
        set_task(config, id2label, problem_type)
        set_dropout(config, self.dropout)
        model, missing = load_model(head, source, config, resize=config.num_labels != saved_count)
        if self.head == "new":
            missing += reinit_head(model)
        warn_newly_initialized(self.model, missing)
        # A head that was loaded keeps its names: its order may differ from the task's.
        if config.num_labels == saved_count and not any(is_head_weight(model, name) for name in missing):
            set_task(model.config, saved_names, problem_type)
        if self.max_position_embeddings:
            resized = resize_position_embeddings(model, self.max_position_embeddings)
            copy_generation_config(resized, model)
            model = resized
        return model


def resolve(model: str) -> str:
    """Return the name to load a model from: ``student/`` in a run folder, else the folder or hub name itself.

    Raises:
        ValueError: if it is a path, but not of a folder with a model.
    """
    path = Path(model).expanduser()
    for folder in (path / "student", path):
        if (folder / "config.json").is_file() or (folder / ADAPTER).is_file():
            return str(folder)
    if path.exists():
        raise ValueError(f"model: {model!r} holds no model: it has no config.json and no student/config.json")
    # "runs/x" could be a hub name too, unless there is a folder "runs".
    if model.startswith(("/", ".", "~")) or model.count("/") > 1 or ("/" in model and path.parent.is_dir()):
        raise ValueError(f"model: there is no folder {model!r}")
    return model


def set_task(config: PretrainedConfig, id2label: dict[int, str] | None, problem_type: ProblemType | None) -> None:
    """Write the names of labels and the ``problem_type`` into a config; ``None`` keeps its own."""
    if problem_type is not None:
        config.problem_type = problem_type
    if id2label is None and problem_type == "regression":
        id2label = {0: "LABEL_0"}
    if id2label is not None:
        config.id2label = dict(id2label)
        config.label2id = {name: index for index, name in id2label.items()}


def copy_generation_config(student: PreTrainedModel, source: PreTrainedModel) -> None:
    """Copy the generation config of the model that a student is made from: end tokens, penalties, sampling."""
    if student.can_generate() and getattr(source, "generation_config", None) is not None:
        student.generation_config = copy.deepcopy(source.generation_config)


def is_head_weight(model: PreTrainedModel, name: str) -> bool:
    """Return whether a weight of this name belongs to the head, outside the base model."""
    return not name.startswith(f"{model.base_model_prefix}.")


def reinit_head(model: PreTrainedModel) -> list[str]:
    """Initialize the head at random, in place, and return the names of its weights.

    Raises:
        ValueError: if it is an LM head, which may be tied to the embeddings.
    """
    if model.get_output_embeddings() is not None:
        raise ValueError("head: the model has an LM head, which cannot be new; leave head out")
    names = [name for name, _ in model.named_parameters() if is_head_weight(model, name)]
    for module in dict.fromkeys(name.rpartition(".")[0] for name in names):
        for parameter in model.get_submodule(module).parameters(recurse=False):
            parameter._is_hf_initialized = False  # type: ignore[attr-defined]  # else transformers skips loaded weights
        model._init_weights(model.get_submodule(module))
    return names


def warn_newly_initialized(source: str, names: list[str]) -> None:
    """Warn that weights of a student were not in its source and are newly initialized."""
    if names:
        warnings.warn(f"not taken from {source}, newly initialized: {', '.join(sorted(set(names)))}", stacklevel=3)
