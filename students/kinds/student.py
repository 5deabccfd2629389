"""What a student is, a way to build the model that is trained; and one that exists already."""

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
from students.loading.adapters import ADAPTER_CONFIG as ADAPTER
from students.loading.adapters import load_config, load_model
from students.structure.outputs import check_problem_type
from students.structure.position_embeddings import resize_position_embeddings
from students.structure.sharing import name_shared_layers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class Student(ABC):
    """How the student is built: a base, the subclass, and the forms that change it, any of them together.

    Args:
        attention: the attention of every block.
        share_layers: blocks that run the same layers.
        low_rank: linear layers in two thin factors.
        embeddings: the form of the token embeddings.
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

    def apply_forms(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]], is_trained: bool) -> None:
        """Apply the forms that are set to a base, in place.

        Args:
            student: the base, made and started.
            batches: those of training, for forms that look at them.
            is_trained: whether its weights come from a trained model.

        Raises:
            ValueError: if one is not possible, with its key first.
        """
        if self.forms:
            from students.models.compact import become_compact  # not above: a config is read without transformers

            become_compact(student)
        for key, form in self.forms.items():
            try:
                form.apply(student, batches, is_trained)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from error
        if self.forms:
            name_shared_layers(student)

    def check(self, teacher: PretrainedConfig | None) -> None:
        """Raise ValueError if no student can be built for such a teacher; needs no weights."""

    @abstractmethod
    def build(
        self,
        teacher: PreTrainedModel | None,
        labels: dict[int, str] | None,
        problem: str | None,
        head: type | None = None,
        batches: Iterable[dict[str, Tensor]] = (),
    ) -> PreTrainedModel:
        """The student: float32 whatever the teacher's dtype, in train mode, with a configuration of its own.

        ``labels`` are the names of the task's labels, ``problem`` is transformers' ``problem_type``; ``None``
        keeps what the model has, but a regression has one label. ``head`` is the Auto class of transformers that
        loads such a model, a classifier of texts if not given. ``batches`` are those of training, for what looks at
        them; without them only numbers are others, and no shape. The teacher stays as it is.

        Raises:
            ValueError: if the student cannot be built, naming the field at fault.
        """


@dataclass(kw_only=True)
class Pretrained(Student):
    """A model that exists.

    Args:
        model: a hub name, a folder, an adapter's too, or the folder of an earlier run.
        head: keep its outputs, which must be those of the task, or make ``new`` ones, for a model of another task.
        max_position_embeddings: the most tokens it can read; a table of positions is repeated to be as long.
        dropout: the share of whatever it drops in training; not given, as the model has it.

    Raises:
        ValueError: if ``max_position_embeddings`` is not positive, or ``dropout`` no share.
    """

    plain: ClassVar[str] = "model"

    model: str
    head: Literal["keep", "new"] = "keep"
    max_position_embeddings: int | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        check_sizes(self, "max_position_embeddings")
        check_dropout(self.dropout)

    def check(self, teacher: PretrainedConfig | None) -> None:
        resolve(self.model)

    def build(
        self,
        teacher: PreTrainedModel | None,
        labels: dict[int, str] | None,
        problem: str | None,
        head: type | None = None,
        batches: Iterable[dict[str, Tensor]] = (),
    ) -> PreTrainedModel:
        source = resolve(self.model)
        config = load_config(source)
        saved_names, saved_count = config.id2label, config.num_labels
        if self.head == "keep":
            check_problem_type(config, problem)
        if self.forms:
            check_forms(self.forms, config)
        set_task(config, labels, problem)
        set_dropout(config, self.dropout)
        model, missing = load_model(head, source, config, resize=config.num_labels != saved_count)
        if self.head == "new":
            missing += reinit_head(model)
        warn_newly_initialized(self.model, missing)
        # Outputs that were loaded keep their names: they may stand in another order than the task's.
        if config.num_labels == saved_count and not any(is_head_weight(model, name) for name in missing):
            set_task(model.config, saved_names, problem)
        if self.max_position_embeddings:
            longer = resize_position_embeddings(model, self.max_position_embeddings)
            copy_generation_config(longer, model)
            model = longer
        self.apply_forms(model, batches, is_trained=True)
        return model.train()


def resolve(model: str) -> str:
    """Where a model is loaded from: a run folder's ``student/``, else the folder or hub name as it stands.

    Raises:
        ValueError: if it is a path, and no folder that holds a model.
    """
    path = Path(model).expanduser()
    for folder in (path / "student", path):
        if (folder / "config.json").is_file() or (folder / ADAPTER).is_file():
            return str(folder)
    if path.exists():
        raise ValueError(f"model: {model!r} holds no model: it has no config.json and no student/config.json")
    # "runs/x" could be a hub name too; a folder "runs" tells what is meant.
    if model.startswith(("/", ".", "~")) or model.count("/") > 1 or ("/" in model and path.parent.is_dir()):
        raise ValueError(f"model: there is no folder {model!r}")
    return model


def set_task(config: PretrainedConfig, labels: dict[int, str] | None, problem: str | None) -> None:
    """Write the labels' names and the ``problem_type`` into a configuration; ``None`` keeps what it has."""
    if problem is not None:
        config.problem_type = problem
    if labels is None and problem == "regression":
        labels = {0: "LABEL_0"}
    if labels is not None:
        config.id2label = dict(labels)
        config.label2id = {name: index for index, name in labels.items()}


def copy_generation_config(student: PreTrainedModel, source: PreTrainedModel) -> None:
    """Give a student the settings of ``generate`` of the model it is made from: end tokens, penalties, sampling."""
    if student.can_generate() and getattr(source, "generation_config", None) is not None:
        student.generation_config = copy.deepcopy(source.generation_config)


def check_dropout(dropout: float | None) -> None:
    """Raise ValueError if it is given and no share."""
    if dropout is not None and not 0 <= dropout < 1:
        raise ValueError(f"dropout: is {dropout}; it is a share, from 0 to below 1")


def set_dropout(config: PretrainedConfig, dropout: float | None) -> None:
    """Write one share over all that a configuration drops, which transformers calls dropout or pdrop in every family;
    ``None`` keeps what it has.
    """
    for name, value in config.to_dict().items() if dropout is not None else ():
        if ("dropout" in name or name.endswith("pdrop")) and type(value) in (int, float):
            setattr(config, name, dropout)


def is_head_weight(model: PreTrainedModel, name: str) -> bool:
    """Whether a weight of this name stands behind the base model."""
    return not name.startswith(f"{model.base_model_prefix}.")


def reinit_head(model: PreTrainedModel) -> list[str]:
    """Start at random, in place, what stands behind the base model; return the names of its weights.

    Raises:
        ValueError: if its outputs are tokens, whose weights may be those of its embeddings.
    """
    if model.get_output_embeddings() is not None:
        raise ValueError("head: its outputs are the tokens of its vocabulary; leave head out")
    names = [name for name, _ in model.named_parameters() if is_head_weight(model, name)]
    for module in dict.fromkeys(name.rpartition(".")[0] for name in names):
        for parameter in model.get_submodule(module).parameters(recurse=False):
            parameter._is_hf_initialized = False  # else transformers leaves alone what it has loaded
        model._init_weights(model.get_submodule(module))
    return names


def warn_newly_initialized(source: str, names: list[str]) -> None:
    """Warn that these weights of a student could not be had from its source and start at random."""
    if names:
        warnings.warn(f"not taken from {source}, start at random: {', '.join(sorted(set(names)))}", stacklevel=3)
