"""What a form is: one change of a student's architecture, which stands beside others in one YAML mapping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

ClassT = TypeVar("Class")


@dataclass(kw_only=True)
class Form(ABC):
    """One change of a student; its fields are what the user sets.

    The class attributes are flags, by which ``students.forms.compatibility`` judges what a form can be combined with.
    """

    key: ClassVar[str]
    """The key of the student's config that holds what ``apply`` did, one of ``students.models.compact.FORMS``."""
    not_after: ClassVar[tuple[str, ...]] = ()
    """The keys of the forms that a model that exists must not have yet; in one student the order is that of FORMS."""
    replaces_attention: ClassVar[bool] = False
    """Whether attention scores are computed in another way, which knows no position bias."""
    shares_layers: ClassVar[bool] = False
    """Whether blocks run the same layers."""
    encoder_only: ClassVar[str] = ""
    """Why there is no such form of a decoder; empty if there is one."""

    def check(self, student: PretrainedConfig) -> None:
        """Check the fields against the student's configuration.

        Raises:
            ValueError: if one does not fit, with its name first.
        """

    @abstractmethod
    def apply(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]], is_trained: bool) -> None:
        """Change a compact model in place, and write into its config what brings a new model to the same form.

        Args:
            student: made and started; the forms before this one have been applied.
            batches: those of training; without them only numbers differ, and no shape.
            is_trained: whether the weights come from a trained model.

        Raises:
            ValueError: if the form is not possible, with the name of the field at fault first.
        """


def check_sizes(holder: object, *names: str, least: int = 1) -> None:
    """Raise ValueError if one of these fields of an object is set to a size that no model has."""
    for name in names:
        size, most = getattr(holder, name), MAX_SIZES.get(name, 2**16)
        if size is not None and not least <= size <= most:
            reason = f"at least {least} is needed" if size < least else f"at most {most:,} are possible"
            raise ValueError(f"{name}: {reason}, not {size}")


MAX_SIZES = {"layers": 1_000, "max_position_embeddings": 2**20}
"""Building a larger student would take hours or fill the memory before any other check could run."""


def find_class(base: type[ClassT], name: str) -> type[ClassT] | None:
    """Return the subclass of ``base`` with this name, at any depth, or None."""
    for child in base.__subclasses__():
        if child.__name__ == name:
            return child
        if deeper := find_class(child, name):
            return deeper
    return None
